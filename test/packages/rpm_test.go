package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
)

// rpm runs rpm on the machine, which has none of its own: this one's, in the machine's namespaces, so that scriptlets run in its root and under its
// systemd. What our package needs is there as Debian's packages, which rpm does not know.
func (m *machine) rpm(t *testing.T, args ...string) string {
	t.Helper()
	argv := append([]string{"--target", fmt.Sprint(m.proc.Pid()), "--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid",
		"rpm", "--force-debian", "--root", m.root, "--dbpath", "/var/lib/rpm", "--nodeps"}, args...)
	out, err := exec.Command("nsenter", argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// rpmOf builds the package, and gives its path on this machine.
func rpmOf(t *testing.T, version string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(build(t, "packages", version), "*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %v, %v", found, err)
	}
	return found[0]
}

// TestRPM: installed with rpm, the service works once it is enabled as the document tells; an upgrade restarts it with its settings; the package's end
// stops it and leaves what containers need; removed as the document tells, nothing is left.
func TestRPM(t *testing.T) {
	testenv.Need(t, "nfpm", "rpm")
	m := boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return m.command("ovs-vsctl", "--timeout=5", "show").Run() == nil })
	before := m.files(t)
	if out := m.rpm(t, "-i", rpmOf(t, "v1.2.3")); strings.Contains(out, "scriptlet") {
		t.Errorf("a scriptlet failed: %s", out)
	}
	if out := m.rpm(t, "-V", "socketplane"); out != "" {
		t.Errorf("files are not as the package has them: %s", out)
	}
	if out := m.run(t, "getent", "group", "socketplane"); out == "" {
		t.Error("there is no group")
	}
	commands, err := fences.Commands("../../docs/install.md", "rpm")
	if err != nil || len(commands) != 2 || !strings.HasPrefix(commands[0], "dnf install") {
		t.Fatalf("documented are %q, %v", commands, err)
	}
	m.run(t, "sh", "-ec", commands[1])
	m.answers(t)
	checkUnits(t, m)
	next := rpmOf(t, "v1.3.0")
	t.Run("upgrade", func(t *testing.T) {
		writeFile(t, m.path("/etc/default/socketplane"), "SOCKETPLANE_NAME=renamed\n")
		m.rpm(t, "-U", next)
		m.answers(t)
		m.until(t, "a new agent has the old settings", func() bool {
			out := m.try("socketplane", "info")
			return strings.Contains(out, "v1.3.0") && strings.Contains(out, "renamed")
		})
	})
	t.Run("removal", func(t *testing.T) {
		m.rpm(t, "-e", "socketplane")
		for _, unit := range units {
			if out := strings.TrimSpace(m.try("systemctl", "is-active", unit)); out == "active" {
				t.Errorf("%s runs after the removal", unit)
			}
		}
		if _, err := os.Stat(m.path("/run/docker/plugins/socketplane.sock")); err == nil {
			t.Error("a socket without an agent stays, for which Docker waits 15 s")
		}
		if out := m.run(t, "ovs-vsctl", "--timeout=10", "list-br"); out != "socketplane0\n" {
			t.Errorf("containers would be cut off: the bridges are %q", out)
		}
	})
	t.Run("without_a_trace", func(t *testing.T) {
		m.run(t, "rm", "/etc/default/socketplane.rpmsave") // of the settings that were changed
		m.rpm(t, "-i", next)
		m.run(t, "sh", "-ec", commands[1])
		m.answers(t)
		removal, err := fences.Commands("../../docs/operations.md", "removal")
		last, err2 := fences.Commands("../../docs/operations.md", "removal-rpm")
		if err != nil || err2 != nil || len(removal) != 3 || len(last) != 2 || last[0] != "dnf remove -y socketplane" {
			t.Fatalf("documented are %q and %q: %v, %v", removal, last, err, err2)
		}
		for _, line := range removal[:2] {
			m.run(t, "sh", "-ec", line)
		}
		m.rpm(t, "-e", "socketplane")
		m.run(t, "sh", "-ec", last[1])
		for _, path := range m.files(t) {
			if _, had := slices.BinarySearch(before, path); !had && !strings.HasPrefix(path, "/var/lib/rpm") {
				t.Errorf("%s stays", path)
			}
		}
		if out := m.run(t, "sh", "-c", "ovs-vsctl --timeout=10 list-br; getent group socketplane || true"); out != "" {
			t.Errorf("bridges or groups stay: %s", out)
		}
	})
}
