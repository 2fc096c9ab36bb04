package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// startPatience bounds the wait for one daemon, unless Options say more; it is long, as hosts start side by side on few cores.
const startPatience = 90 * time.Second

// Host is one Docker host.
type Host struct {
	// Name is h1, h2, …; it is the host name, too.
	Name string
	// Addr and Addr6 are the host's addresses in the underlay.
	Addr, Addr6 netip.Addr
	// Dir has the host's own directories, as seen from outside: run, log, and those below etc and var/lib.
	Dir string

	lab    *Lab
	opened process

	init, ovsdb, vswitchd, dockerd, agent *testenv.Process
	// binary is this host's own socketplane program; "" for the lab's.
	binary string
	// disabled is true while the managed plugin is, which is the agent then.
	disabled bool
}

func newHost(l *Lab, index int) *Host {
	name := "h" + strconv.Itoa(index+1)
	h := &Host{Name: name, Addr: hostAddr(index), Addr6: hostAddr6(index), Dir: filepath.Join(l.opts.Dir, name), lab: l}
	h.init = testenv.NewProcess(h.logPath("init"), "nsenter", "--net=/run/netns/"+l.netns(name),
		"unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-ec", initScript, "sh", h.Dir, name, l.probe)
	h.init.Forks, h.init.Detached = true, l.opts.Detached
	return h
}

// ownDirs are the host's own; all below a host's /run is its own.
func ownDirs() []string {
	return []string{"etc/openvswitch", "etc/docker", "var/lib/docker", "var/lib/containerd", "var/lib/socketplane", "var/lib/openvswitch"}
}

// initScript makes the host's mounts and becomes its first process. /sys is mounted anew as it shows the network
// namespace it was mounted in; the cgroup mounts in it are carried over, as dockerd needs them.
const initScript = `
dir=$1; hostname "$2"; probe=$3
for d in etc/openvswitch etc/docker var/lib/docker var/lib/containerd var/lib/socketplane var/lib/openvswitch; do
	mkdir -p "/$d"; mount --bind "$dir/$d" "/$d"
done
mkdir -p "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t sysfs sysfs /sys
mount --move "$dir/cgroup" /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
mount --bind "$dir/run" /run
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
touch /run/up
exec "$probe" init
`

// boot makes a host from nothing.
func (h *Host) boot(ctx context.Context, image string) error {
	for _, dir := range append(ownDirs(), "log", "run") {
		if err := os.MkdirAll(filepath.Join(h.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	if err := h.plug(ctx); err != nil {
		return err
	}
	if err := h.powerOn(ctx); err != nil || h.lab.opts.NoDocker {
		return err
	}
	return h.importImage(ctx, image)
}

// powerOn starts the host's first process, Open vSwitch and Docker: all that starts when a machine does, but the agent. What is to be
// there before Docker is done in between.
func (h *Host) powerOn(ctx context.Context, before ...func(context.Context) error) error {
	if err := os.MkdirAll(filepath.Join(h.Dir, "run", "openvswitch"), 0o755); err != nil {
		return err
	}
	if err := h.init.Start(); err != nil {
		return err
	}
	up := func() bool { _, err := os.Stat(h.runPath("up")); return err == nil }
	if err := h.await(ctx, "first process", h.init, up); err != nil {
		return err
	}
	if err := h.record(); err != nil {
		return err
	}
	if h.lab.opts.Tunnel != TunnelOVS {
		if err := h.address(ctx, "eth0"); err != nil {
			return err
		}
	}
	if !h.lab.opts.NoOVS {
		if err := h.startOVS(ctx); err != nil {
			return err
		}
	}
	for _, do := range before {
		if err := do(ctx); err != nil {
			return err
		}
	}
	if h.lab.opts.NoDocker {
		return nil
	}
	return h.StartDocker(ctx)
}

// record writes the host's first process into the lab's state.
func (h *Host) record() error {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	for i := range h.lab.state.Hosts {
		if h.lab.state.Hosts[i].Name == h.Name {
			h.lab.state.Hosts[i].Init = identify(h.init.Pid())
		}
	}
	return h.lab.state.save()
}

// Reboot is a power failure: every process of the host dies, what is in /run and in its kernel's network is gone, and the
// host starts again with its disk, at the addresses that Addr and Addr6 are now. The agent is not started; StartAgent does that
// afterwards, or before Docker, when it is given here: that is how systemd orders them. A host that was halted just starts.
func (h *Host) Reboot(ctx context.Context, beforeDocker ...func(context.Context) error) error {
	h.Halt()
	// The NIC would go with the namespace's last user, which on a busy machine the kernel takes a minute for.
	if _, err := run(ctx, "ip", "-n", h.lab.netns("und"), "link", "delete", h.Name); err != nil {
		return err
	}
	ns := h.lab.netns(h.Name)
	if _, err := run(ctx, "ip", "netns", "delete", ns); err != nil {
		return err
	}
	if err := os.RemoveAll(h.runPath("")); err != nil {
		return fmt.Errorf("reboot %s: %w", h.Name, err)
	}
	if err := h.plug(ctx); err != nil {
		return err
	}
	return h.powerOn(ctx, beforeDocker...)
}

// Halt pulls the host's plug: all its processes end at once. Reboot starts it again.
func (h *Host) Halt() { h.init.Kill() }

// Wipe empties the agent's disk, as if SocketPlane had never been there. Neither the agent nor what it started may run.
func (h *Host) Wipe() error {
	dir := filepath.Join(h.Dir, "var/lib/socketplane") // it is mounted in the host, so it stays
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("wipe %s: %w", h.Name, err)
	}
	return nil
}

// Renumber gives the host other addresses from its next start on.
func (h *Host) Renumber() { h.Addr, h.Addr6 = renumbered(h.Addr), renumbered(h.Addr6) }

// Exec runs a program inside the host's namespaces and returns its standard output. The error has what it wrote to
// standard error.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	enter, err := h.enter()
	if err != nil {
		return "", err
	}
	out, err := run(ctx, append(enter, argv...)...)
	if err != nil {
		return out, fmt.Errorf("%s: %w", h.Name, err)
	}
	return out, nil
}

// EnterCommand is the command that, followed by a program and its arguments, runs it inside the host.
func (h *Host) EnterCommand() []string {
	enter, err := h.enter()
	if err != nil {
		return []string{"false"}
	}
	return enter
}

func (h *Host) enter() ([]string, error) {
	pid := h.initPid()
	if pid == 0 {
		return nil, fmt.Errorf("%s does not run:\n%s", h.Name, h.init.Tail(10))
	}
	return []string{"nsenter", "--target", strconv.Itoa(pid), "--mount", "--uts", "--net", "--pid"}, nil
}

func (h *Host) initPid() int {
	if h.opened.alive() {
		return h.opened.Pid
	}
	return h.init.Pid()
}

// daemon describes a process inside the host. Its environment is the machine's, with what is given before it.
func (h *Host) daemon(name string, env []string, argv ...string) (*testenv.Process, error) {
	enter, err := h.enter()
	if err != nil {
		return nil, err
	}
	p := testenv.NewProcess(h.logPath(name), append(enter, argv...)...)
	p.Forks, p.Detached = true, h.lab.opts.Detached
	if env != nil {
		p.Env = append(os.Environ(), env...)
	}
	return p, nil
}

// await waits until a daemon is ready; it fails as soon as the daemon ends.
func (h *Host) await(ctx context.Context, what string, p *testenv.Process, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, h.lab.opts.Patience)
	defer cancel()
	ended := false
	err := testenv.Poll(ctx, 25*time.Millisecond, func() bool {
		ended = !p.Running()
		return ended || ready()
	})
	if ended {
		err = errors.New("it ended")
	}
	if err != nil {
		return fmt.Errorf("%s on %s is not ready: %w; the end of %s:\n%s", what, h.Name, err, p.Log(), p.Tail(25))
	}
	return nil
}

// Listening says whether somebody accepts connections on a unix socket below the host's /run.
func (h *Host) Listening(socket string) bool {
	conn, err := net.DialTimeout("unix", h.runPath(strings.TrimPrefix(socket, "/run/")), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// LogTail gives the last lines of a log: agent, dockerd, ovsdb-server, ovs-vswitchd or init. A managed plugin's is part of dockerd's.
func (h *Host) LogTail(name string, lines int) string {
	if name == string(Agent) && h.lab.opts.Plugin {
		return h.managedLog(lines)
	}
	return testenv.TailFile(h.logPath(name), lines)
}

func (h *Host) logPath(name string) string { return filepath.Join(h.Dir, "log", name+".log") }
func (h *Host) runPath(name string) string { return filepath.Join(h.Dir, "run", name) }
