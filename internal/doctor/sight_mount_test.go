package doctor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
)

// mounted starts a process named dockerd in a new mount namespace, which begins as that of the process join if that is not 0, after a script. It ends
// with the test.
func mounted(t *testing.T, program string, join int, script string) (pid int) {
	t.Helper()
	run := []string{"unshare", "--mount", "--propagation", "private", "sh", "-ec", script + "\necho up\nexec " + program}
	if join != 0 {
		run = append([]string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", join)}, run...)
	}
	cmd := exec.Command(run[0], run[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it copies its input until then
		_ = cmd.Wait()
	})
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("%s: %q, %v", script, line, err)
	}
	// It answers when it is the program, and no longer the shell.
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// TestSightOfMountNamespaces: a real process sees the socket of a host, or has mounts of its own, as Docker of the snap store has.
func TestSightOfMountNamespaces(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "unshare", "nsenter", "cat")
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "dockerd")
	if err := os.WriteFile(program, text, 0o700); err != nil {
		t.Fatal(err)
	}
	host := mounted(t, program, 0, "mount -t tmpfs tmpfs /run; mkdir -p /run/docker/plugins; echo >/run/docker/plugins/socketplane.sock")
	root := fmt.Sprintf("/proc/%d/root", host)
	for name, c := range map[string]struct {
		script string
		state  string
		word   string
	}{
		"the host's":             {"", adminapi.CheckOK, "sees the agent's socket"},
		"of its own":             {"mount -t tmpfs tmpfs /run/docker/plugins", adminapi.CheckBad, "sees no"},
		"all of /run of its own": {"mount -t tmpfs tmpfs /run; mkdir -p /run/docker/plugins; echo >/run/docker/plugins/socketplane.sock", adminapi.CheckBad, "sees another"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			dockerd := mounted(t, program, host, c.script)
			// No process serves Docker's socket; the process's id is in a file beside it.
			s := Sight{Files: Files{Root: root}, DockerHost: "unix:///run/docker/none.sock", PluginSocket: "/run/docker/plugins/socketplane.sock"}
			put(t, filepath.Join(root, "run/docker/docker.pid"), fmt.Sprint(dockerd))
			got := Run(t.Context(), []Check{s.Check()})[0]
			if said := got.Text + " " + got.Cure; got.State != c.state || !strings.Contains(said, c.word) || !strings.Contains(said, fmt.Sprint(dockerd)) {
				t.Errorf("%s: %s", got.State, said)
			}
			if f := s.Ahead(t.Context()); f.State != c.state {
				t.Errorf("before there is a socket: %+v", f)
			}
		})
	}
}
