package plugin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/plugin"
)

// childEnv makes the test binary act as an agent that systemd started. Its value is the names to take, by commas.
const childEnv = "SOCKETPLANE_TEST_ACTIVATED"

// activatedChild serves what it was passed until its standard input ends.
func activatedChild() int {
	var names []string
	if v := os.Getenv(childEnv); v != "all" {
		names = strings.Split(v, ",")
	}
	listeners, err := plugin.Activated(names...)
	if err != nil {
		fmt.Println(err)
		return 3
	}
	fmt.Printf("%d listeners\n", len(listeners))
	if len(listeners) == 0 {
		return 4
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	mem := newMemory()
	if err := plugin.New(mem, mem, plugin.Options{}).Serve(ctx, listeners...); err != nil {
		fmt.Println(err)
		return 5
	}
	return 0
}

// startChild runs the child with descriptors from 3 on. LISTEN_PID is only known in the new process, hence the shell.
func startChild(t *testing.T, take, fdNames string, files ...*os.File) (cmd *exec.Cmd, stdin io.Closer, out *syncBuffer) {
	t.Helper()
	out = &syncBuffer{}
	cmd = exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, must(os.Executable()))
	cmd.Env = append(os.Environ(), childEnv+"="+take, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+fdNames)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = out, out
	stdin = must(cmd.StdinPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin, out
}

func TestActivation(t *testing.T) {
	for name, c := range map[string]struct {
		take         string
		served, idle []string
	}{
		"all":     {"all", []string{"plugin", "admin"}, nil},
		"by-name": {"admin", []string{"admin"}, []string{"plugin"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name+".sock") }
			var files []*os.File
			for _, name := range []string{"plugin", "admin"} {
				l := must(net.Listen("unix", path(name))).(*net.UnixListener)
				l.SetUnlinkOnClose(false)
				files = append(files, must(l.File()))
				l.Close()
			}
			cmd, stdin, out := startChild(t, c.take, "plugin:admin", files...)
			for _, name := range c.served {
				a := &agent{client: clientOf(path(name))}
				if r := a.call(t, "POST", "/Plugin.Activate", ""); r.status != 200 {
					t.Errorf("%s: %d %s", name, r.status, r.body)
				}
				a.client.CloseIdleConnections()
			}
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("child: %v: %s", err, out.String())
			}
			if want := fmt.Sprintf("%d listeners", len(c.served)); !strings.Contains(out.String(), want) {
				t.Errorf("child said %q, want %q", out.String(), want)
			}
			// The sockets are systemd's: they outlive the agent, and still take connections here.
			for _, name := range append(c.served, c.idle...) {
				conn, err := net.Dial("unix", path(name))
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
			}
			for _, f := range files {
				f.Close()
			}
		})
	}
}

func TestActivationRefuses(t *testing.T) {
	file := must(os.Open(os.DevNull))
	defer file.Close()
	udp := must(net.ListenPacket("udp", "127.0.0.1:0"))
	defer udp.Close()
	udpFile := must(udp.(*net.UDPConn).File())
	defer udpFile.Close()
	for name, f := range map[string]*os.File{"no-socket": file, "not-listening": udpFile} {
		t.Run(name, func(t *testing.T) {
			cmd, stdin, out := startChild(t, "all", "thing", f)
			defer stdin.Close()
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(out.String(), "thing") {
				t.Errorf("child: %s: %s", cmd.ProcessState, out.String())
			}
		})
	}
}

func TestNotActivated(t *testing.T) {
	for name, c := range map[string]struct {
		pid, fds string
		fails    bool
	}{
		"no-environment":  {"", "", false},
		"of-a-parent":     {"1", "2", false},
		"no-number":       {strconv.Itoa(os.Getpid()), "two", true},
		"negative":        {strconv.Itoa(os.Getpid()), "-1", true},
		"far-too-many":    {strconv.Itoa(os.Getpid()), "100000", true},
		"none-was-passed": {strconv.Itoa(os.Getpid()), "0", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LISTEN_PID", c.pid)
			t.Setenv("LISTEN_FDS", c.fds)
			got, err := plugin.Activated()
			if len(got) != 0 || (err != nil) != c.fails {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
