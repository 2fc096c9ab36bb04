package packages

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file in testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		writeFile(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with -update)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (accept with -update); got:\n%s", path, got)
	}
}

// TestInstallByBinary: `socketplane install` tells and asks, sets the service up and can be repeated; uninstall leaves what containers
// need; clean leaves nothing.
func TestInstallByBinary(t *testing.T) {
	m := boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return m.command("ovs-vsctl", "--timeout=5", "show").Run() == nil })
	m.copyIn(t, filepath.Join(build(t, "binary", "v1.2.3"), "socketplane-linux-amd64"), "/root/socketplane")
	before := m.files(t)

	if out := m.fails(t, "/root/socketplane", "install"); !strings.Contains(out, "nobody to ask") {
		t.Errorf("without anybody to ask: %s", out)
	}
	if after := m.files(t); !slices.Equal(before, after) {
		t.Error("an install that nobody agreed to has changed the disk")
	}
	golden(t, "install.txt", m.run(t, "sh", "-c", "echo y | /root/socketplane install"))
	m.answers(t)
	for _, unit := range units {
		if out := strings.TrimSpace(m.try("systemctl", "is-enabled", unit)) + " " + strings.TrimSpace(m.try("systemctl", "is-active", unit)); out != "enabled active" {
			t.Errorf("%s is %s", unit, out)
		}
	}
	m.until(t, "the agent has its bridge", func() bool { return strings.Contains(m.try("ovs-vsctl", "--timeout=5", "list-br"), "socketplane0") })
	if out := m.run(t, "systemctl", "show", "-p", "ExecStart", "socketplane.service"); !strings.Contains(out, "path=/usr/local/bin/socketplane") {
		t.Errorf("the service runs %s", out)
	}
	writeFile(t, m.path("/etc/default/socketplane"), "SOCKETPLANE_NAME=renamed\n")
	m.run(t, "/root/socketplane", "install", "--yes")
	m.answers(t)
	m.until(t, "install again, settings kept", func() bool { return strings.Contains(m.try("socketplane", "info"), "renamed") })
	if out := m.fails(t, "socketplane", "clean", "--yes"); !strings.Contains(out, "the agent runs") {
		t.Errorf("clean beside a running agent: %s", out)
	}
	golden(t, "uninstall.txt", m.run(t, "socketplane", "uninstall", "--yes"))
	if out := m.run(t, "ovs-vsctl", "--timeout=10", "list-br"); out != "socketplane0\n" {
		t.Errorf("bridges after uninstall: %q", out)
	}
	if _, err := os.Stat(m.path("/run/docker/plugins/socketplane.sock")); err == nil {
		t.Error("a socket without an agent stays, for which Docker waits 15 s")
	}
	m.run(t, "ip", "link", "add", "spe0123456789ab", "type", "veth", "peer", "name", "inside")
	m.run(t, "ip", "link", "set", "spe0123456789ab", "alias", "socketplane:endpoint:0123")
	m.run(t, "ip", "link", "add", "foreign", "type", "veth", "peer", "name", "far1")
	m.reserves(t)
	golden(t, "clean.txt", m.run(t, "sh", "-c", "echo yes | /root/socketplane clean"))
	if out := m.run(t, "ovs-vsctl", "--timeout=10", "list-br"); out != "" {
		t.Errorf("bridges after clean: %q", out)
	}
	if out := m.run(t, "ip", "-o", "link", "show"); strings.Contains(out, "socketplane") || !strings.Contains(out, "foreign") {
		t.Errorf("links after clean: %s", out)
	}
	if out := m.run(t, "/root/socketplane", "clean"); out != "Agents have left nothing here.\n" {
		t.Errorf("clean again: %s", out)
	}
	if out := m.fails(t, "/root/socketplane", "uninstall"); !strings.Contains(out, "has set nothing up") {
		t.Errorf("uninstall again: %s", out)
	}
	// useradd's programs keep a copy of the group file's former version.
	backup := regexp.MustCompile(`^/etc/(group|gshadow|passwd|shadow)-$`)
	for _, path := range m.files(t) {
		if _, had := slices.BinarySearch(before, path); !had && !backup.MatchString(path) {
			t.Errorf("%s stays", path)
		}
	}
}

// TestInstallScript: from the directory of a release, install.sh checks, asks, installs and undoes.
func TestInstallScript(t *testing.T) {
	m := boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return m.command("ovs-vsctl", "--timeout=5", "show").Run() == nil })
	dir := build(t, "release", "v1.2.3")
	if err := os.Mkdir(m.path("/root/release"), 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		m.copyIn(t, filepath.Join(dir, e.Name()), "/root/release/"+e.Name())
	}
	const script = "/root/release/install.sh"
	if out := m.fails(t, script); !strings.Contains(out, "nothing was done") {
		t.Errorf("without anybody to ask: %s", out)
	}
	damaged := m.path("/root/release/socketplane_1.2.3-1_amd64.deb")
	whole := read(t, damaged)
	writeFile(t, damaged, string(whole[:len(whole)-1])+"x")
	if out := m.fails(t, script, "--yes"); !strings.Contains(out, "is not what SHA256SUMS says") {
		t.Errorf("a damaged package: %s", out)
	}
	if out := m.try("dpkg", "-s", "socketplane"); !strings.Contains(out, "not installed") {
		t.Errorf("something was installed: %s", out)
	}
	writeFile(t, damaged, string(whole))
	before := m.files(t)
	m.run(t, "sh", "-c", "echo y | "+script)
	m.answers(t)
	m.run(t, script, "--undo", "--purge", "--yes")
	for _, path := range m.files(t) {
		if _, had := slices.BinarySearch(before, path); !had && !strings.HasPrefix(path, "/var/lib/apt/") && !strings.HasPrefix(path, "/var/cache/apt/") {
			t.Errorf("%s stays", path)
		}
	}
	if out := m.fails(t, script, "--undo", "--yes"); !strings.Contains(out, "is not installed here") {
		t.Errorf("undo again: %s", out)
	}
	// Where no package manager is wanted, the binary of the release does it.
	m.run(t, script, "--yes", "/root/release/socketplane-linux-amd64")
	m.answers(t)
	m.run(t, script, "--undo", "--purge", "--yes")
	for _, path := range m.files(t) {
		if _, had := slices.BinarySearch(before, path); !had && !strings.HasPrefix(path, "/var/lib/apt/") && !strings.HasPrefix(path, "/var/cache/apt/") {
			t.Errorf("%s stays", path)
		}
	}
}
