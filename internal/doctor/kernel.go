package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
)

// Forwarding looks whether the host's kernel forwards packets between links, as Docker needs it for docker_gwbridge. outward is the
// link by which packets to the outside leave; nil where it is not known.
func Forwarding(files Files, links Links, outward func(context.Context) (dev string, mtu int, err error)) Check {
	const path = "/proc/sys/net/ipv4/ip_forward"
	const looks = "net.ipv4.ip_forward, where Docker has a bridge, and net.ipv4.conf.*.forwarding of docker_gwbridge and of the link by which packets to the outside leave"
	return Check{Name: nameForwarding, Looks: looks, Look: func(ctx context.Context) Finding {
		on, err := files.Number(path)
		if err != nil {
			return Unknown(err.Error(), "mount /proc")
		}
		if on != 0 {
			return forwardingOf(ctx, files, links, outward)
		}
		all, err := links()
		if err != nil {
			return Unknown(err.Error(), "")
		}
		for _, bridge := range []string{gatewayBridge, "docker0"} {
			if _, there := named(all, bridge); there {
				return Error("net.ipv4.ip_forward is 0", "containers do not reach anything outside their networks, and published ports do not work; they do reach each other",
					"sysctl -w net.ipv4.ip_forward=1, and put net.ipv4.ip_forward=1 into a file of /etc/sysctl.d")
			}
		}
		return NotApplicable("net.ipv4.ip_forward is 0, but Docker has made no bridge here yet; it turns it on itself unless it runs with --ip-forward=false")
	}}
}

// forwardingOf looks at the links' own settings, which may be off although the host's is on.
func forwardingOf(ctx context.Context, files Files, links Links, outward func(context.Context) (string, int, error)) Finding {
	all, err := links()
	if err != nil {
		return Unknown(err.Error(), "")
	}
	if _, there := named(all, gatewayBridge); !there {
		return OK("net.ipv4.ip_forward is 1")
	}
	devs := []string{gatewayBridge}
	if outward != nil {
		dev, _, err := outward(ctx)
		if err != nil {
			return Unknown("the link by which packets to the outside leave is not known: "+err.Error(), "")
		}
		if dev != "" {
			devs = append(devs, dev)
		}
	}
	for _, dev := range devs {
		on, err := files.Number("/proc/sys/net/ipv4/conf/" + dev + "/forwarding")
		if err != nil {
			return Unknown(err.Error(), "")
		}
		if on == 0 {
			return Error("net.ipv4.ip_forward is 1, but forwarding of "+dev+" is off: the kernel forwards nothing that comes in by it",
				"containers do not reach anything outside their networks, and published ports do not work; they do reach each other",
				"sysctl -w "+setting(dev, "forwarding")+"=1, and see which file of /etc/sysctl.d or which program turned it off")
		}
	}
	return OK("net.ipv4.ip_forward is 1, and on for %s", strings.Join(devs, " and "))
}

// setting is the name of an IPv4 setting of a link as sysctl takes it: with slashes where the link's name has dots, as those of VLANs have.
func setting(dev, key string) string {
	if strings.Contains(dev, ".") {
		return "net/ipv4/conf/" + dev + "/" + key
	}
	return "net.ipv4.conf." + dev + "." + key
}

// ReversePath looks whether strict filtering drops what other hosts send: it does where the way back leaves by another link than that
// of the tunnel address. wayTo is the link by which packets from one address to another leave, loopback says whether packets to a link's
// addresses come in by other links.
func ReversePath(files Files, underlay func() Underlay, hosts func(context.Context) ([]Peer, error),
	wayTo func(ctx context.Context, from, to netip.Addr) (dev string, direct bool, err error), loopback func(ctx context.Context, dev string) (bool, error)) Check {
	return Check{Name: nameFilter, Looks: "net.ipv4.conf.*.rp_filter of the link with the tunnel address, and the links by which packets to other hosts leave", Look: func(ctx context.Context) Finding {
		u := underlay()
		switch {
		case !u.Addr.IsValid():
			return Unknown("this host has no tunnel address", "see the tunnel address")
		case u.Addr.Is6():
			return NotApplicable("tunnels are over IPv6, which has no such filter in the kernel")
		}
		switch is, err := loopback(ctx, u.Dev); {
		case err != nil:
			return Unknown(err.Error(), "")
		case is:
			return NotApplicable("the tunnel address is on %s, a loopback or dummy: packets to it come in by any link", u.Dev)
		}
		strict := false
		for i, dev := range []string{"all", u.Dev} {
			n, err := files.Number("/proc/sys/net/ipv4/conf/" + dev + "/rp_filter")
			if err != nil {
				return Unknown(err.Error(), "")
			}
			switch { // the kernel takes the larger of the two (ip-sysctl.rst)
			case n == 1:
				strict = true
			case n == 2:
				strict = false
			}
			if n == 2 && i == 0 {
				return OK("loose for all links")
			}
		}
		if !strict {
			return OK("not strict on %s", u.Dev)
		}
		peers, err := hosts(ctx)
		if err != nil {
			return Unknown("the other hosts are not known: "+err.Error(), "see the store")
		}
		for _, p := range peers {
			if !p.VTEP.Is4() || p.VTEP == u.Addr || !p.Alive {
				continue
			}
			if dev, _, err := wayTo(ctx, u.Addr, p.VTEP); err == nil && dev != u.Dev {
				return Error(fmt.Sprintf("the filter is strict on %s, which has the tunnel address, but packets from it to %s (%s) leave by %s", u.Dev, p.Name, p.VTEP, dev),
					"the kernel drops what that host sends to the tunnel address",
					fmt.Sprintf("sysctl -w %s=2, and put it into a file of /etc/sysctl.d", setting(u.Dev, "rp_filter")))
			}
		}
		return OK("strict on %s, by which packets from it to all other hosts that are up leave too", u.Dev)
	}}
}

// conntrackWarns is the part of the table, in percent, from which it is nearly full.
const conntrackWarns = 90

// Conntrack looks how full the kernel's table of connections is: when it is full, new connections of containers to the outside are dropped.
func Conntrack(files Files) Check {
	const dir = "/proc/sys/net/netfilter/nf_conntrack_"
	return Check{Name: nameConntrack, Looks: "net.netfilter.nf_conntrack_count and _max", Look: func(context.Context) Finding {
		count, err := files.Number(dir + "count")
		if errors.Is(err, fs.ErrNotExist) {
			return NotApplicable("the kernel tracks no connections here")
		}
		most, maxErr := files.Number(dir + "max")
		if err := errors.Join(err, maxErr); err != nil {
			return Unknown(err.Error(), "")
		}
		saw := fmt.Sprintf("%d of %d entries are used", count, most)
		if most > 0 && count*100 >= most*conntrackWarns {
			f := Warning(saw, "when the table is full the kernel drops new connections of containers to the outside and to published ports",
				fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, and put it into a file of /etc/sysctl.d", 4*most))
			if count >= most {
				f.State = "error"
			}
			return f
		}
		return OK("%s", saw)
	}}
}

// Bounds of limits: files that an agent needs at least, beside those it has open, and instances of inotify that Docker and systemd need.
const (
	filesSpare      = 64
	inotifyLeast    = 128 // the kernel's own default (fs/notify/inotify/inotify_user.c)
	filesSystemFull = 90  // percent of fs.file-max
)

// Limits looks at the files that the agent's process may open and has open, at the system's, and at inotify's.
func Limits(files Files) Check {
	return Check{Name: nameLimits, Looks: "open files of the agent's process and of the system, and fs.inotify.max_user_instances", Look: func(context.Context) Finding {
		limit, most, err := files.openLimit()
		if err != nil {
			return Unknown(err.Error(), "")
		}
		open, err := files.count("/proc/self/fd")
		if err != nil {
			return Unknown(err.Error(), "")
		}
		if limit-open < filesSpare {
			return Error(fmt.Sprintf("the agent has %d files open and may open %d", open, limit), "calls of Docker and connections to the store fail with 'too many open files'",
				fmt.Sprintf("prlimit --nofile=%s --pid $(pidof socketplane), and LimitNOFILE=65536 in the unit (systemctl edit socketplane)", raised(limit, most)))
		}
		if all, err := files.Text("/proc/sys/fs/file-nr"); err == nil {
			var used, free, most int64
			if n, _ := fmt.Sscan(all, &used, &free, &most); n == 3 && most > 0 && used >= most/100*filesSystemFull {
				return Warning(fmt.Sprintf("%d of the system's %d files are open", used, most), "any program may soon fail with 'too many open files in system'",
					fmt.Sprintf("sysctl -w fs.file-max=%d", 4*most))
			}
		}
		instances, err := files.Number("/proc/sys/fs/inotify/max_user_instances")
		if err != nil {
			return Unknown(err.Error(), "")
		}
		if instances < inotifyLeast {
			return Warning(fmt.Sprintf("fs.inotify.max_user_instances is %d, less than the kernel's default", instances),
				"Docker and containers fail to start with 'too many open files'", "sysctl -w fs.inotify.max_user_instances=512, and put it into a file of /etc/sysctl.d")
		}
		return OK("the agent has %d of %d files open; fs.inotify.max_user_instances is %d", open, limit, instances)
	}}
}

// raised is what the limit is to become, as prlimit takes it: what is allowed now already, where that is more.
func raised(limit, most int) string {
	if most > limit {
		return fmt.Sprintf("%d:", most)
	}
	return "65536"
}

// openLimit is how many files this process may open, and to how many it may raise that.
func (f Files) openLimit() (limit, most int, err error) {
	const key = "Max open files"
	text, err := f.Text("/proc/self/limits")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			fields := strings.Fields(strings.ReplaceAll(rest, "unlimited", strconv.Itoa(1<<30)))
			if len(fields) < 2 {
				break
			}
			limit, err = strconv.Atoi(fields[0])
			if err == nil {
				most, err = strconv.Atoi(fields[1])
			}
			return limit, most, err
		}
	}
	return 0, 0, errors.New("/proc/self/limits does not say how many files may be open")
}
