package ovsctl_test

import (
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/ovsctl"
)

// TestDatabaseThatDropsAtOnce: a database that lets nobody say a word is dialled with growing pauses, and Connect does not wait for it.
func TestDatabaseThatDropsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-over
	})
	log := &lines{}
	s, err := ovsctl.Connect(t.Context(), ovsctl.Options{Endpoint: "unix:" + path, Bridge: bridge, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	told, take := s.News()
	<-told
	take()
	const watched = 5 * time.Second
	<-time.After(watched)
	// 50, 100, 200 ms and so on up to 2 s, each at least half of that.
	if n := dialled.Load(); n < 2 || n > 16 {
		t.Errorf("%d connections in %v", n, watched)
	}
	if n := log.count("Open vSwitch can't be reached"); n == 0 || n > 3 {
		t.Errorf("the log has %d lines about it:\n%s", n, log)
	}
	if n := take(); !n.Empty() {
		t.Errorf("attempts that fail are told as news: %+v", n)
	}
	if s.Ready() == nil {
		t.Error("it is ready")
	}
}
