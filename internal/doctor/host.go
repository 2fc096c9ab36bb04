package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Files reads what the host's kernel shows as files, below Root: "" is the host itself, tests have a directory.
type Files struct {
	Root string
	// Contained says that other files are a container's own, as those of Docker's managed plugin: that a program is missing says nothing.
	Contained bool
}

// Text is a file's content without the space around it.
func (f Files) Text(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/", f.Root, path))
	return strings.TrimSpace(string(text)), err
}

// Number is the number that a file has.
func (f Files) Number(path string) (int64, error) {
	text, err := f.Text(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// Process is what is known of a process.
type Process struct {
	PID  int
	Name string
	// Stopped says that a signal (SIGSTOP) or a debugger keeps it from running.
	Stopped bool
	Exists  bool
}

// Process looks at a process; one that does not exist is no error.
func (f Files) Process(pid int) (Process, error) {
	text, err := f.Text(fmt.Sprintf("/proc/%d/status", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Process{PID: pid}, nil
	case err != nil:
		return Process{}, err
	}
	p := Process{PID: pid, Exists: true}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "Name":
			p.Name = value
		case "State":
			p.Stopped = strings.HasPrefix(value, "T") || strings.HasPrefix(value, "t")
			p.Exists = !strings.HasPrefix(value, "Z") && !strings.HasPrefix(value, "X")
		}
	}
	return p, nil
}

// agent finds an agent, of a package or Docker's managed plugin, that is as said.
func (f Files) agent(is func(pid int) bool) (Process, bool) {
	entries, err := os.ReadDir(filepath.Join("/", f.Root, "proc"))
	if err != nil {
		return Process{}, false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := f.Process(pid)
		if err != nil || !p.Exists || p.Name != "socketplane" || !is(pid) {
			continue
		}
		if args, err := f.Text(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && slices.ContainsFunc(strings.Split(args, "\x00"), func(arg string) bool { return arg == "agent" || arg == "managed" }) {
			return p, true
		}
	}
	return Process{}, false
}

// namespace says whether a process is in this network namespace, where that can be read.
func (f Files) namespace(pid int) (known, same bool) {
	theirs, err := os.Readlink(filepath.Join("/", f.Root, fmt.Sprintf("/proc/%d/ns/net", pid)))
	own, ownErr := os.Readlink(filepath.Join("/", f.Root, "/proc/self/ns/net"))
	return err == nil && ownErr == nil, theirs == own
}

// stopped finds a process of a name that a signal keeps from running; 0 if there is none.
func (f Files) stopped(name string) int {
	entries, err := os.ReadDir(filepath.Join("/", f.Root, "proc"))
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, err := f.Process(pid); err == nil && p.Stopped && p.Name == name {
			return pid
		}
	}
	return 0
}

// Link is an interface of the host.
type Link struct {
	Name string
	MTU  int
	// Up is what the administrator wants, Carrier what the other end of the cable gives.
	Up, Carrier bool
	Addrs       []netip.Prefix
	// MAC is its hardware address, "" if it has none.
	MAC string
}

// neighbour is the MAC to which the kernel sends what is for an IPv4 address on a link; "" if it has none.
func (f Files) neighbour(dev string, to netip.Addr) string {
	text, err := f.Text("/proc/net/arp")
	if err != nil {
		return ""
	}
	const complete = 0x2                    // ATF_COM of linux/if_arp.h
	for line := range strings.Lines(text) { // address, type, flags, MAC, mask, device
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[0] != to.String() || fields[5] != dev {
			continue
		}
		if flags, err := strconv.ParseUint(fields[2], 0, 32); err == nil && flags&complete != 0 {
			return fields[3]
		}
	}
	return ""
}

// Links reads the host's interfaces.
type Links func() ([]Link, error)

// HostLinks reads those of the network namespace that the program runs in.
func HostLinks() ([]Link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []Link
	for _, i := range interfaces {
		l := Link{Name: i.Name, MTU: i.MTU, Up: i.Flags&net.FlagUp != 0, Carrier: i.Flags&net.FlagRunning != 0, MAC: i.HardwareAddr.String()}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went in between
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				addr, _ := netip.AddrFromSlice(n.IP)
				ones, _ := n.Mask.Size()
				l.Addrs = append(l.Addrs, netip.PrefixFrom(addr.Unmap(), ones))
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// named finds a link.
func named(links []Link, name string) (Link, bool) {
	i := slices.IndexFunc(links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return links[i], true
}

// having finds the link that has an address.
func having(links []Link, addr netip.Addr) (Link, bool) {
	i := slices.IndexFunc(links, func(l Link) bool {
		return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr.Unmap() })
	})
	if i < 0 {
		return Link{}, false
	}
	return links[i], true
}
