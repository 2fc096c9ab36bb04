package packages

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
)

// documents are those whose every command is run by a test.
var documents = []string{"../../docs/install.md", "../../docs/operations.md"}

// TestEveryCommandIsRun: each block of commands names a test that is there.
func TestEveryCommandIsRun(t *testing.T) {
	// What runs them: TestDocumentedHost and the tests beside it, TestRPM, and those of test/plugin.
	known := []string{"host", "removal", "nft", "script", "binary", "rpm", "removal-rpm",
		"policy", "policy-commands", "build", "push", "plugin", "plugin-upgrade", "plugin-stuck", "swarm", "dockerfile"}
	for _, d := range documents {
		blocks, err := fences.Read(d)
		if err != nil {
			t.Error(err)
		}
		for _, b := range blocks {
			if !slices.Contains(known, b.Where) {
				t.Errorf("%s:%d: nothing runs %q", d, b.Line, b.Where)
			}
		}
	}
}

// TestDocumentedHost runs the commands that the documents tell for a host with the package, in their order, on such a host.
func TestDocumentedHost(t *testing.T) {
	m := boot(t)
	m.until(t, "Open vSwitch is up", func() bool { return m.command("ovs-vsctl", "--timeout=5", "show").Run() == nil })
	m.copyIn(t, deb(t, "v1.2.3"), "/root/socketplane_1.2.3-1_amd64.deb")
	for _, d := range documents {
		commands, err := fences.Commands(d, "host")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commands {
			// Without Docker, doctor has something to say.
			if line == "socketplane doctor" {
				if out := m.fails(t, "sh", "-c", line); !strings.Contains(out, "systemctl start docker") {
					t.Errorf("%s: %s", line, out)
				}
				continue
			}
			m.run(t, "sh", "-ec", "cd /root; "+line)
		}
		m.answers(t)
	}
	commands, err := fences.Commands("../../docs/operations.md", "removal")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range commands {
		m.run(t, "sh", "-ec", line)
	}
	if out := m.try("sh", "-c", "ls -d /var/lib/socketplane /etc/default/socketplane; ovs-vsctl br-exists socketplane0 && echo bridge"); strings.Contains(out, "bridge\n") ||
		strings.Count(out, "No such file") != 2 {
		t.Errorf("after the removal: %s", out)
	}
}

// TestDocumentedFirewall: nft takes the rules of the document.
func TestDocumentedFirewall(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "nft", "unshare")
	blocks, err := fences.Read("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if b.Where != "nft" {
			continue
		}
		rules := filepath.Join(t.TempDir(), "rules")
		writeFile(t, rules, strings.Join(b.Lines, "\n")+"\n")
		if out, err := exec.Command("unshare", "--net", "nft", "-f", rules).CombinedOutput(); err != nil {
			t.Errorf("nft: %v: %s", err, out)
		}
	}
}
