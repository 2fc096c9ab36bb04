package ownovs_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/ownovs"
	"github.com/socketplane/socketplane/internal/testenv"
)

func TestHostHas(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "db.sock")
	ask := func(want bool, when string) {
		t.Helper()
		if has, err := ownovs.HostHas(socket, filepath.Join(dir, "state")); err != nil || has != want {
			t.Errorf("%s: %t, %v", when, has, err)
		}
	}
	ask(false, "nothing there")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ask(true, "it answers")
	l.Close()
	ask(true, "it is late this time")
}

// TestRun: the daemons run until they are told to stop, over a database that the next run finds again. Half a database, which a killed
// start has left, is no obstacle.
func TestRun(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovsdb-server", "ovs-vswitchd", "ovs-vsctl")
	dir, err := os.MkdirTemp("", "ovs") // short, as there are sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts := ownovs.Options{Dir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "run", "db.sock"),
		Schema: "/usr/share/openvswitch/vswitch.ovsschema", Logger: slog.New(slog.DiscardHandler), Prepared: func() {}}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(opts.Dir, "conf.db.new"), []byte("OVSDB JSON 17"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"after-half-a-start", "again"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- ownovs.Run(ctx, opts) }()
			pid := filepath.Join(dir, "run", "ovs-vswitchd.pid")
			if err := testenv.Poll(ctx, 20*time.Millisecond, func() bool { _, err := os.Stat(pid); return err == nil }); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(pid); err == nil {
				t.Error("ovs-vswitchd has not ended by itself")
			}
			if _, err := os.Stat(filepath.Join(opts.Dir, "conf.db")); err != nil {
				t.Error(err)
			}
		})
	}
}
