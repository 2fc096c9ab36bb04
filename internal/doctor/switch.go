package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// KernelModule looks for the kernel's datapath. A kernel that comes without it is no fault of the host: packets are then forwarded in
// user space. One that has it as a module which is not loaded is.
func KernelModule(files Files, has func() bool) Check {
	return Check{Name: nameKernel, Looks: "whether the kernel has Open vSwitch's datapath, or a module for it in /lib/modules", Look: func(context.Context) Finding {
		if has() {
			return OK("the kernel has openvswitch")
		}
		release, err := files.Text("/proc/sys/kernel/osrelease")
		if err != nil {
			return Unknown("the kernel has no openvswitch, and its release can't be read: "+err.Error(), "mount /proc")
		}
		modules, err := files.Text("/lib/modules/" + release + "/modules.dep")
		const slower = "packets are forwarded in user space, which is slower"
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return NotApplicable("kernel %s has no openvswitch, and there are no modules for it in /lib/modules: %s", release, slower)
		case err != nil:
			return Unknown("the kernel has no openvswitch, and its modules can't be listed: "+err.Error(), "")
		case strings.Contains(modules, "/openvswitch.ko"):
			return Warning("the kernel's module openvswitch is not loaded", slower,
				"modprobe openvswitch, and restart Open vSwitch and the agent")
		}
		return NotApplicable("kernel %s comes without openvswitch: %s", release, slower)
	}}
}

// Plane is how the agent's data plane is.
type Plane struct {
	Version, Datapath, Tunnel string
	TSO                       bool
	Flows                     int
	// Err is what keeps something from being as it should; nil if nothing does.
	Err error
	// Unreached says, a line for each network, how many hosts its broadcasts do not reach.
	Unreached []string
}

// Switch is what Open vSwitch is looked at with.
type Switch struct {
	Files Files
	// DB is the path of ovsdb-server's socket, Mgmt that of our bridge's management socket.
	DB, Mgmt string
	// Plane is what the agent knows; nil without an agent.
	Plane func(context.Context) Plane
	// Restart is the command that restarts Open vSwitch, Log where the agent's log is.
	Restart, Log string
}

// RestartSwitch is the command that restarts Open vSwitch's daemons: packages name their unit differently. Where no unit is found, as in a
// container, it is Debian's.
func RestartSwitch(files Files) string {
	const restart = "systemctl restart "
	for _, unit := range []string{"openvswitch-switch", "openvswitch", "ovs-vswitchd"} { // Debian and Ubuntu; RPM-based; others
		for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
			if info, err := os.Stat(filepath.Join("/", files.Root, dir, unit+".service")); err == nil && info.Mode().IsRegular() {
				return restart + unit
			}
		}
	}
	return restart + "openvswitch-switch"
}

// Consequences of daemons that do not run.
const (
	withoutSwitch = "containers that are added have no network, and on hosts without the kernel's datapath nothing is forwarded at all"
	withoutOVSDB  = "no container can be added to a network or taken from one; those that run keep talking"
)

// Daemons looks whether both daemons of Open vSwitch answer, now, and what the agent says of them.
func (s Switch) Daemons() Check {
	return Check{Name: nameSwitch, Looks: "answers of ovsdb-server at " + s.DB + " and of ovs-vswitchd at " + s.Mgmt, Look: func(ctx context.Context) Finding {
		db := make(chan served, 1)
		go func() { db <- askSocket(ctx, s.DB, []byte(`{"method":"echo","params":[],"id":"doctor"}`)) }()
		// ovs-vswitchd greets whoever connects.
		mgmt := askSocket(ctx, s.Mgmt, nil)
		if f, bad := (<-db).daemon(s.Files, "ovsdb-server", s.DB, s.Restart, withoutOVSDB); bad {
			return f
		}
		if errors.Is(mgmt.err, fs.ErrNotExist) && s.Plane == nil {
			return s.noBridge()
		}
		if f, bad := mgmt.daemon(s.Files, "ovs-vswitchd", s.Mgmt, s.Restart, withoutSwitch); bad {
			return f
		}
		if s.Plane == nil {
			return OK("ovsdb-server and ovs-vswitchd answer")
		}
		p := s.Plane(ctx)
		if p.Err != nil {
			return Error(p.Err.Error(), "", s.Log+" says more")
		}
		if len(p.Unreached) > 0 {
			return Warning(strings.Join(p.Unreached, "; "), "containers reach each other, but those that look for each other by broadcast or multicast do not find all",
				"use --tunnel kernel, whose devices reach all hosts, or spread the containers over several networks")
		}
		return OK("%s, datapath %s, tunnel %s, %d flows", cmp.Or(p.Version, "of unknown version"), p.Datapath, p.Tunnel, p.Flows)
	}}
}

// noBridge looks at the daemon's process where there is no bridge whose socket could be asked.
func (s Switch) noBridge() Finding {
	path := s.DB[:strings.LastIndexByte(s.DB, '/')+1] + "ovs-vswitchd.pid"
	text, err := s.Files.Text(path)
	pid, parse := strconv.Atoi(text)
	if errors.Is(err, fs.ErrNotExist) {
		return Error("ovs-vswitchd does not run: there is no "+path, withoutSwitch, s.Restart)
	}
	if err = errors.Join(err, parse); err != nil {
		return Unknown(err.Error(), "run 'socketplane doctor' as root")
	}
	p, err := s.Files.Process(pid)
	switch {
	case err != nil:
		return Unknown(err.Error(), "run 'socketplane doctor' as root")
	case !p.Exists:
		return Error(fmt.Sprintf("ovs-vswitchd does not run: its process %d is gone", pid), withoutSwitch, s.Restart)
	case p.Stopped:
		return Error(fmt.Sprintf("ovs-vswitchd (process %d) is stopped by a signal", pid), withoutSwitch, fmt.Sprintf("kill -CONT %d", pid))
	}
	return OK("ovsdb-server answers and ovs-vswitchd runs (process %d); there is no bridge of ours yet, which the agent makes", pid)
}

// Offload looks whether segmentation is offloaded as the tunnel needs it. toggle is what comes after the setting is changed.
func (s Switch) Offload() Check {
	return Check{Name: nameOffload, Looks: "userspace-tso-enable, when ovs-vswitchd started", Look: func(ctx context.Context) Finding {
		p := s.Plane(ctx)
		const setting = "ovs-vsctl %s open_vswitch . other_config%suserspace-tso-enable%s && %s"
		switch {
		case p.Datapath == "":
			return Unknown("the datapath is not known while Open vSwitch does not answer", "see Open vSwitch")
		case p.Datapath != "netdev":
			return OK("the kernel's own")
		case p.TSO && p.Tunnel == "ovs":
			return Error("userspace-tso-enable is on, and the tunnel is Open vSwitch's own, in user space", "the two do not work together: large transfers break",
				fmt.Sprintf(setting, "remove", " ", "", s.Restart))
		case !p.TSO && p.Tunnel == "kernel":
			return Warning("off", "large transfers are several times slower than they could be", fmt.Sprintf(setting, "set", ":", "=true", s.Restart))
		case p.TSO:
			return OK("on, in user space")
		}
		return OK("off, as this tunnel needs it")
	}}
}

// BridgeState is our bridge in Open vSwitch's database and in the switch.
type BridgeState struct {
	FailMode    string
	Controllers int
	// Ports are ports that are not ours, sorted; Flows are flows that are not ours.
	Ports, Flows []string
	// Missing is how many of our own flows are not there.
	Missing int
	// Mended is how often the agent has found its own flows changed, and Last when; zero for never.
	Mended uint64
	Last   time.Time
}

// spoiled says in a few words what keeps the bridge from forwarding as it should; "" if nothing is known.
func (s BridgeState) spoiled() string {
	switch {
	case s.Controllers > 0:
		return "an OpenFlow controller is set"
	case s.Missing > 0:
		return fmt.Sprintf("%d of SocketPlane's flows are missing", s.Missing)
	case len(s.Flows) > 0:
		return fmt.Sprintf("%d flows are not SocketPlane's", len(s.Flows))
	}
	return ""
}

// lookAgain is the pause until what may be in the middle of a change is looked at again.
const lookAgain = 500 * time.Millisecond

// mendedLately is how long a change that the agent took back is mentioned.
const mendedLately = 10 * time.Minute

// Bridge looks for the hands of others on our bridge.
func Bridge(name string, state func(context.Context) (BridgeState, error)) Check {
	return Check{Name: nameBridge, Looks: "fail mode, controllers, ports and flows of bridge " + name + ", and changes that the agent took back", Look: func(ctx context.Context) Finding {
		s, err := state(ctx)
		if err == nil && s.Missing > 0 { // flows may be changing in this moment
			select {
			case <-ctx.Done():
			case <-time.After(lookAgain):
			}
			s, err = state(ctx)
		}
		if err != nil {
			return Unknown(err.Error(), "see Open vSwitch")
		}
		const follows = "containers may not reach each other, or reach what they must not"
		switch {
		case s.Controllers > 0:
			return Error(fmt.Sprintf("bridge %s has an OpenFlow controller, which changes its flows", name), follows, "ovs-vsctl del-controller "+name)
		case s.FailMode != "secure":
			return Error(fmt.Sprintf("the fail mode of bridge %s is %q", name, s.FailMode), "it may forward without flows, between networks",
				"ovs-vsctl set-fail-mode "+name+" secure")
		case s.Missing > 0:
			return Error(fmt.Sprintf("%d of SocketPlane's flows are not on bridge %s: something else removed them", s.Missing, name), "containers do not reach each other",
				"the agent gives them again, within half a minute at the latest; find what else writes to the bridge, such as a script with ovs-ofctl")
		case len(s.Flows) > 0:
			return Error(fmt.Sprintf("%d flows on bridge %s are not SocketPlane's: %s", len(s.Flows), name, s.Flows[0]), follows,
				"ovs-ofctl del-flows "+name+" "+cookieOf(s.Flows[0]))
		case len(s.Ports) > 0:
			return Warning(fmt.Sprintf("ports on bridge %s are not SocketPlane's: %s", name, strings.Join(s.Ports, ", ")),
				"nothing is forwarded to or from them", "ovs-vsctl del-port "+name+" "+s.Ports[0])
		case s.Mended > 0 && time.Since(s.Last) < mendedLately:
			return Warning(fmt.Sprintf("something else changed flows of SocketPlane on bridge %s, the last time at %s (%d times since the agent's start); the agent has mended them",
				name, s.Last.Format(time.TimeOnly), s.Mended), "packets were lost or went astray meanwhile",
				"find what else writes to the bridge, such as a script with ovs-ofctl, and keep it from that")
		}
		return OK("as the agent made it, without ports or flows of others")
	}}
}

// cookieOf is a flow's cookie as ovs-ofctl matches it.
func cookieOf(flow string) string {
	for _, part := range strings.FieldsFunc(flow, func(r rune) bool { return r == ',' || r == ' ' }) {
		if value, ok := strings.CutPrefix(part, "cookie="); ok {
			return "cookie=" + value + "/-1"
		}
	}
	return "cookie=0/-1"
}
