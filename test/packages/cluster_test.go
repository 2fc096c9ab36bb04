package packages

import (
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
)

// TestServiceRunsConsul: the hardened service runs a Consul of its own, which outlives the agent's restart, and ends with the package.
func TestServiceRunsConsul(t *testing.T) {
	consul, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	m := boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return m.command("ovs-vsctl", "--timeout=5", "show").Run() == nil })
	m.copyIn(t, consul, "/usr/local/bin/consul")
	m.copyIn(t, deb(t, "v1.2.3"), "/root/first.deb")
	m.run(t, "dpkg", "-i", "/root/first.deb")
	m.until(t, "the host is a cluster", func() bool { return strings.Contains(m.try("socketplane", "host", "ls", "--quiet"), "vm") })
	pid := strings.TrimSpace(m.run(t, "pgrep", "-x", "consul"))
	m.run(t, "systemctl", "restart", "socketplane.service")
	m.answers(t)
	m.until(t, "the cluster goes on", func() bool { return strings.Contains(m.try("socketplane", "host", "ls", "--quiet"), "vm") })
	if got := strings.TrimSpace(m.run(t, "pgrep", "-x", "consul")); got != pid {
		t.Errorf("Consul was process %s and is %s", pid, got)
	}
	m.run(t, "dpkg", "-r", "socketplane")
	m.until(t, "Consul ends with the package", func() bool { return m.try("pgrep", "-x", "consul") == "" })

	m.run(t, "dpkg", "-i", "/root/first.deb")
	m.until(t, "the host is a cluster again", func() bool { return strings.Contains(m.try("socketplane", "host", "ls", "--quiet"), "vm") })
	m.run(t, append([]string{"systemctl", "stop"}, units...)...)
	if m.try("pgrep", "-x", "consul") == "" {
		t.Error("Consul ended with the agent: it would be silent during each restart")
	}
	m.run(t, "socketplane", "clean", "--yes")
	if out := m.try("pgrep", "-x", "consul"); out != "" {
		t.Errorf("clean leaves Consul running: %s", out)
	}
	if _, err := os.Stat(m.path("/var/lib/socketplane")); err == nil {
		t.Error("clean leaves the state")
	}
}
