package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// TestSight: whatever dockerd has in place of the agent's socket is an error with the cure, and what can't be seen is not said to be well.
func TestSight(t *testing.T) {
	for name, c := range map[string]struct {
		// theirs is what dockerd has in place of the socket's directory: "" the same.
		theirs string
		exe    string
		noPID  bool
		host   string
		state  string
		says   []string
		ahead  string
	}{
		"same":                   {state: adminapi.CheckOK, says: []string{"process 77", "sees the agent's socket"}, ahead: adminapi.CheckOK},
		"private and empty":      {theirs: "empty", state: adminapi.CheckBad, says: []string{"sees no /run/docker/plugins/socketplane.sock", "mount namespace of its own", "Docker's own packages"}, ahead: adminapi.CheckBad},
		"private with another":   {theirs: "socket", state: adminapi.CheckBad, says: []string{"sees another"}, ahead: adminapi.CheckBad},
		"no directory":           {theirs: "none", state: adminapi.CheckBad, says: []string{"sees no"}, ahead: adminapi.CheckBad},
		"snap that hides it":     {theirs: "empty", exe: "/snap/docker/2893/bin/dockerd", state: adminapi.CheckBad, says: []string{"of the snap store", "snap remove docker"}, ahead: adminapi.CheckBad},
		"snap that shows it":     {exe: "/snap/docker/2893/bin/dockerd", state: adminapi.CheckWarn, says: []string{"of the snap store", "confinement", "snap remove docker"}, ahead: adminapi.CheckWarn},
		"no dockerd":             {noPID: true, state: adminapi.CheckUnknown, says: []string{"can't be seen"}, ahead: adminapi.CheckUnknown},
		"Docker on another host": {host: "tcp://192.0.2.9:2375", state: adminapi.CheckOK, says: []string{"not applicable"}, ahead: adminapi.CheckOK},
		"without Docker's API":   {host: "none", state: adminapi.CheckOK, says: []string{"not applicable"}, ahead: adminapi.CheckOK},
	} {
		t.Run(name, func(t *testing.T) {
			root := shortDir(t)
			plugins := filepath.Join(root, "run/docker/plugins")
			sock(t, filepath.Join(plugins, "socketplane.sock"))
			proc := filepath.Join(root, "proc/77")
			mkdir(t, filepath.Join(proc, "ns"))
			mkdir(t, filepath.Join(root, "proc/self/ns"))
			symlink(t, "mnt:[1]", filepath.Join(root, "proc/self/ns/mnt"))
			symlink(t, "mnt:[2]", filepath.Join(proc, "ns/mnt"))
			if c.exe == "" {
				c.exe = "/usr/bin/dockerd"
			}
			symlink(t, c.exe, filepath.Join(proc, "exe"))
			if !c.noPID {
				put(t, filepath.Join(proc, "status"), "Name:\tdockerd\nState:\tS (sleeping)\n")
			}
			switch c.theirs {
			case "":
				symlink(t, root, filepath.Join(proc, "root"))
			case "empty":
				mkdir(t, filepath.Join(proc, "root/run/docker/plugins"))
			case "socket":
				sock(t, filepath.Join(proc, "root/run/docker/plugins/socketplane.sock"))
			case "none":
				mkdir(t, filepath.Join(proc, "root"))
			}
			if c.host == "" {
				c.host = "unix://" + filepath.Join(root, "none.sock")
			}
			s := Sight{Files: Files{Root: root}, DockerHost: c.host, PluginSocket: "/run/docker/plugins/socketplane.sock"}
			got := Run(t.Context(), []Check{s.Check()})[0]
			said := got.Text + " " + got.Cure
			if got.State != c.state {
				t.Errorf("%s: %s", got.State, said)
			}
			for _, part := range c.says {
				if !strings.Contains(said, part) {
					t.Errorf("it does not say %q: %s", part, said)
				}
			}
			if f := s.Ahead(t.Context()); f.State != c.ahead || (f.State == adminapi.CheckOK) != (f.Cure == "") {
				t.Errorf("before there is a socket: %+v", f)
			}
		})
	}
}

// shortDir is a directory in whose name there is room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func sock(t *testing.T, path string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
