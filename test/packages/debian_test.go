package packages

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
)

var units = []string{"socketplane.service", "socketplane.socket", "socketplane-admin.socket"}

// installed boots a machine with Open vSwitch and installs the package on it. It gives what was on the disk before.
func installed(t *testing.T) (m *machine, before []string) {
	t.Helper()
	testenv.Need(t, "nfpm")
	m = boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return !strings.Contains(m.try("ovs-vsctl", "--timeout=5", "show"), "rror") })
	m.copyIn(t, deb(t, "v1.2.3"), "/root/first.deb")
	before = m.files(t)
	m.run(t, "dpkg", "-i", "/root/first.deb")
	m.answers(t)
	return m, before
}

func deb(t *testing.T, version string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(build(t, "packages", version), "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %v, %v", found, err)
	}
	return found[0]
}

// TestDebianPackage: installed on a fresh Debian with dpkg, the hardened service works; an upgrade restarts the agent and nothing else;
// what containers need stays when the package goes; purged, nothing is left.
func TestDebianPackage(t *testing.T) {
	m, before := installed(t)
	t.Run("units", func(t *testing.T) { checkUnits(t, m) })
	t.Run("documents", func(t *testing.T) {
		for _, file := range []string{"/usr/share/man/man1/socketplane-agent.1.gz", "/usr/share/bash-completion/completions/socketplane",
			"/etc/default/socketplane", "/usr/share/doc/socketplane/copyright"} {
			if info, err := os.Stat(m.path(file)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", file, err)
			}
		}
	})
	t.Run("sockets", func(t *testing.T) {
		for path, want := range map[string]string{"/run/docker/plugins/socketplane.sock": "600 root", "/run/socketplane/agent.sock": "660 socketplane",
			"/var/lib/socketplane": "700 root"} {
			if got := strings.TrimSpace(m.run(t, "stat", "-c", "%a %G", path)); got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
	})
	t.Run("works", func(t *testing.T) {
		m.until(t, "the agent has its bridge", func() bool { return strings.Contains(m.try("socketplane", "info"), "bridge") })
		if out := m.run(t, "socketplane", "version"); !strings.Contains(out, "v1.2.3") {
			t.Errorf("version: %s", out)
		}
		m.until(t, "there is that bridge and no other", func() bool { return m.try("ovs-vsctl", "--timeout=10", "list-br") == "socketplane0\n" })
	})
	t.Run("upgrade", func(t *testing.T) { upgrade(t, m) })
	t.Run("purge", func(t *testing.T) { purge(t, m, before) })
}

// checkUnits lets systemd itself judge the units.
func checkUnits(t *testing.T, m *machine) {
	var paths []string
	for _, unit := range units {
		paths = append(paths, "/usr/lib/systemd/system/"+unit)
		if out := strings.TrimSpace(m.try("systemctl", "is-enabled", unit)); out != "enabled" {
			t.Errorf("%s is %s, want enabled", unit, out)
		}
		if out := strings.TrimSpace(m.try("systemctl", "is-active", unit)); out != "active" {
			t.Errorf("%s is %s, want active", unit, out)
		}
	}
	if out := m.run(t, append([]string{"systemd-analyze", "verify", "--man=no"}, paths...)...); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	// In tenths; 0 is the least exposed, an unguarded service has 96.
	out := m.run(t, "systemd-analyze", "security", "--offline=true", "--threshold=30", paths[0])
	if !strings.Contains(out, "Overall exposure level") {
		t.Errorf("systemd-analyze security: %s", out)
	}
	if out := m.run(t, "systemctl", "show", "-p", "Before", "socketplane.service", "socketplane.socket"); strings.Count(out, "docker.service") != 2 {
		t.Errorf("service and socket are not both before docker.service: %s", out)
	}
	// Docker waits for what the service waits for.
	out = m.run(t, "systemctl", "show", "-p", "After", "-p", "Wants", "-p", "Requires", "socketplane.service", "socketplane.socket")
	for _, slow := range []string{"network-online.target", "network.target", "consul.service", "docker.service"} {
		if strings.Contains(out, slow) {
			t.Errorf("Docker's boot waits for %s: %s", slow, out)
		}
	}
	m.until(t, "systemd is told how the agent does", func() bool {
		return strings.Contains(m.run(t, "systemctl", "show", "-p", "Type", "-p", "StatusText", "socketplane.service"), "StatusText=running") // Type=notify: it is active
	})
}

// upgrade demands that Docker's socket stays open, settings and state stay, and a new agent runs.
func upgrade(t *testing.T, m *machine) {
	const socket = "/run/docker/plugins/socketplane.sock"
	id := func() string {
		m.until(t, "the agent tells its host", func() bool { return m.command("socketplane", "info", "--format", "json").Run() == nil })
		_, rest, _ := strings.Cut(m.run(t, "socketplane", "info", "--format", "json"), `"id": "`)
		return rest[:min(16, len(rest))]
	}
	m.copyIn(t, deb(t, "v1.3.0"), "/root/second.deb")
	writeFile(t, m.path("/etc/default/socketplane"), "SOCKETPLANE_NAME=renamed\n")
	inode, host := m.run(t, "stat", "-c", "%i", socket), id()
	m.run(t, "dpkg", "-i", "/root/second.deb")
	m.answers(t)
	if got := m.run(t, "stat", "-c", "%i", socket); got != inode {
		t.Error("the upgrade made Docker's socket anew: calls that come meanwhile are refused")
	}
	if got := id(); got != host || host == "" {
		t.Errorf("the host's id was %q and is %q", host, got)
	}
	m.until(t, "a new agent has the old settings", func() bool {
		out := m.try("socketplane", "info")
		return strings.Contains(out, "v1.3.0") && strings.Contains(out, "renamed")
	})
}

// purge removes the package while a container uses the bridge, and again when none does.
func purge(t *testing.T, m *machine, before []string) {
	m.run(t, "ovs-vsctl", "--timeout=20", "add-br", "foreign", "--", "set", "Bridge", "foreign", "datapath_type=netdev")
	m.run(t, "dpkg", "-r", "socketplane")
	// A container's link, as the agent makes it. An agent that runs would remove it, as it knows no such container.
	m.run(t, "ip", "link", "add", "spe0123456789ab", "type", "veth", "peer", "name", "inside")
	m.run(t, "ip", "link", "set", "spe0123456789ab", "alias", "socketplane:endpoint:0123")
	for _, unit := range units {
		if out := strings.TrimSpace(m.try("systemctl", "is-active", unit)); out == "active" {
			t.Errorf("%s runs after the removal", unit)
		}
	}
	if _, err := os.Stat(m.path("/run/docker/plugins/socketplane.sock")); err == nil {
		t.Error("a socket without an agent stays, for which Docker waits 15 s")
	}
	if out := m.run(t, "dpkg", "-P", "socketplane"); !strings.Contains(out, "containers still use") {
		t.Errorf("nobody says that the bridge stays: %s", out)
	}
	if out := m.run(t, "ovs-vsctl", "--timeout=10", "list-br"); out != "foreign\nsocketplane0\n" {
		t.Errorf("bridges with a container on one of them: %s", out)
	}
	m.run(t, "ip", "link", "delete", "spe0123456789ab")
	m.run(t, "dpkg", "-i", "/root/second.deb")
	m.answers(t)
	m.reserves(t)
	m.run(t, "dpkg", "-P", "socketplane")
	if out := m.run(t, "ovs-vsctl", "--timeout=10", "list-br"); out != "foreign\n" {
		t.Errorf("bridges after the purge: %s", out)
	}
	if out := m.try("getent", "group", "socketplane"); out != "" {
		t.Errorf("the group stays: %s", out)
	}
	if out := m.run(t, "ip", "-o", "link", "show"); strings.Contains(out, "socketplane") {
		t.Errorf("links stay: %s", out)
	}
	for _, path := range m.files(t) {
		if _, had := slices.BinarySearch(before, path); !had {
			t.Errorf("%s stays", path)
		}
	}
}

// reserves makes the device for reserved subnets, as an agent does where there are networks.
func (m *machine) reserves(t *testing.T) {
	t.Helper()
	m.run(t, "ip", "link", "add", "socketplane-res", "type", "bridge")
	m.run(t, "ip", "link", "set", "socketplane-res", "alias", "socketplane:reserved")
}
