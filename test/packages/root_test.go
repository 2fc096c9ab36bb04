package packages

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// patience bounds whatever has no limit of its own.
const patience = 3 * time.Minute

// checkout is this repository, seen from this directory.
const checkout = "../.."

// machine is a Debian system of its own: root file system, network, processes, and systemd as its first process.
type machine struct {
	proc   *testenv.Process
	groups []string // control groups
	root   string   // its root in its mount namespace, beside this machine's
}

// bootScript makes the machine's mounts and becomes its systemd. Arguments: the fresh root, a directory for the overlay.
const bootScript = `
lower=$1; dir=$2; root=$dir/root
mount --make-rprivate /
mkdir -p "$dir/up" "$dir/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/up,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
for d in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$d"; done
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
for d in null zero full random urandom tty net/tun; do : >"$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	mount -t tmpfs tmpfs "$root/sys/fs/cgroup"; mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
ip link set lo up
ip link add eth0 type veth peer name far
ip address add 192.0.2.11/24 dev eth0
ip link set eth0 up; ip link set far up
ip route add default via 192.0.2.1
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system
`

// boot starts a machine that nothing was installed on.
func boot(t *testing.T) *machine {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "unshare", "nsenter", "ip", "chroot")
	fresh := filepath.Join(testenv.CacheDir(), "debian", "root")
	if _, err := os.Stat(fresh); err != nil {
		testenv.Missing(t, "needs a Debian root: run test/tools/install.sh debian")
	}
	dir := t.TempDir()
	m := &machine{groups: controlGroups(t), root: filepath.Join(dir, "root")}
	m.proc = testenv.NewProcess(filepath.Join(dir, "log"), "unshare", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--fork", "--kill-child",
		"sh", "-ec", bootScript, "sh", fresh, dir)
	m.proc.Forks = true
	// A process starts in its parent's control group: this one joins the machine's, and leaves it again.
	joinGroups(t, m.groups)
	err := m.proc.Start()
	leaveGroups(t, m.groups)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", m.try("journalctl", "-u", "socketplane", "--no-pager", "-n", "40"))
			t.Logf("the machine's own log:\n%s", m.proc.Tail(20))
		}
		m.proc.Kill()
		removeGroups(t, m.groups)
	})
	m.until(t, "systemd is up", func() bool { return strings.Contains(m.try("systemctl", "is-system-running"), "running") })
	return m
}

// controlGroups names a group of the machine's own in each hierarchy that systemd uses.
func controlGroups(t *testing.T) []string {
	name := fmt.Sprintf("socketplane-test-%d", os.Getpid())
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{filepath.Join("/sys/fs/cgroup", name)}
	}
	return []string{filepath.Join("/sys/fs/cgroup/systemd", name)}
}

func joinGroups(t *testing.T, groups []string) {
	t.Helper()
	for _, g := range groups {
		if err := os.MkdirAll(g, 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(g, "cgroup.procs"), "0")
	}
}

func leaveGroups(t *testing.T, groups []string) {
	t.Helper()
	for _, g := range groups {
		writeFile(t, filepath.Join(filepath.Dir(g), "cgroup.procs"), "0")
	}
}

// removeGroups removes the groups once their last process is gone, which is a moment after it was killed.
func removeGroups(t *testing.T, groups []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, g := range groups {
		if err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
			// Directories of control groups go one by one, the innermost first.
			_ = exec.Command("find", g, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
			_, err := os.Stat(g)
			return err != nil
		}); err != nil {
			t.Errorf("control group %s stays", g)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// path is a path of the machine as seen from outside.
func (m *machine) path(inside string) string {
	return filepath.Join("/proc", fmt.Sprint(m.proc.Pid()), "root", inside)
}

// command runs a program on the machine.
func (m *machine) command(argv ...string) *exec.Cmd {
	args := []string{"--target", fmt.Sprint(m.proc.Pid()), "--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--root", "--wdns=/",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=cat"}
	return exec.Command("nsenter", append(args, argv...)...)
}

// try gives a program's output, whether it succeeds or not.
func (m *machine) try(argv ...string) string {
	out, _ := m.command(argv...).CombinedOutput()
	return string(out)
}

// run runs a program that must succeed and gives its output.
func (m *machine) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := m.command(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// fails runs a program that must not succeed.
func (m *machine) fails(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := m.command(argv...).CombinedOutput()
	if err == nil {
		t.Errorf("%s succeeds, and must not:\n%s", strings.Join(argv, " "), out)
	}
	return string(out)
}

func (m *machine) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := testenv.Poll(ctx, 50*time.Millisecond, holds); err != nil {
		t.Fatalf("not so within %v: %s", patience, what)
	}
}

// files lists every path of the machine's disk but logs, and what Open vSwitch and systemd write at any time.
func (m *machine) files(t *testing.T) []string {
	t.Helper()
	out := m.run(t, "find", "/", "-xdev", "(", "-path", "/var/log", "-o", "-path", "/var/lib/systemd", "-o", "-path", "/var/lib/openvswitch",
		"-o", "-path", "/etc/openvswitch", "-o", "-path", "/root", ")", "-prune", "-o", "-print")
	list := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(list)
	return list
}

// copyIn puts a file of ours on the machine.
func (m *machine) copyIn(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(to), data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// answers demands that the agent answers Docker's first question.
func (m *machine) answers(t *testing.T) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", m.path("/run/docker/plugins/socketplane.sock"))
		}}}
	m.until(t, "the agent answers on Docker's socket", func() bool {
		resp, err := client.Post("http://plugin/Plugin.Activate", "", nil)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// build runs packaging/build.sh for this machine's architecture and gives the directory with what it made.
func build(t *testing.T, what, version string) string {
	t.Helper()
	testenv.Need(t, "nfpm")
	out := filepath.Join(t.TempDir(), "dist")
	cmd := exec.Command("packaging/build.sh", what, out)
	cmd.Dir = checkout
	cmd.Env = append(os.Environ(), "VERSION="+version, "COMMIT=0123456", "ARCHES=amd64", "STAGE="+t.TempDir()+"/stage")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", what, err, text)
	}
	return out
}
