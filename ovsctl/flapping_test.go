package ovsctl_test

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl"
)

// door is a way to a switch's database that may drop whoever has come in.
type door struct {
	path   string
	opened atomic.Int64 // how often somebody came
	slam   atomic.Bool
}

// newDoor drops its visitors a moment after they came while slam is set: time enough to read the database.
func newDoor(t *testing.T, sw *ovs.Switch) *door {
	d := &door{path: filepath.Join(t.TempDir(), "db.sock")}
	l, err := net.Listen("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	var visitors gosync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		visitors.Wait()
	})
	visitors.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			d.opened.Add(1)
			visitors.Go(func() { d.lead(in, strings.TrimPrefix(sw.DB, "unix:")) })
		}
	})
	return d
}

func (d *door) lead(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer out.Close()
	if d.slam.Load() {
		timer := time.AfterFunc(200*time.Millisecond, func() {
			in.Close()
			out.Close()
		})
		defer timer.Stop()
	}
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// TestDatabaseThatDropsItsClients: a database that takes connections and drops them is asked seldom, told of once, and used as soon as it lasts.
func TestDatabaseThatDropsItsClients(t *testing.T) {
	sw := ovs.Start(t)
	d := newDoor(t, sw)
	d.slam.Store(true)
	log := &lines{}
	s, err := ovsctl.Connect(t.Context(), ovsctl.Options{Endpoint: "unix:" + d.path, Bridge: bridge, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const watched = 5 * time.Second
	<-time.After(watched)
	// 50, 100, 200 ms and so on up to 2 s, each at least half of that.
	if n := d.opened.Load(); n < 3 || n > 16 {
		t.Errorf("%d connections in %v", n, watched)
	}
	if n := log.count("Open vSwitch can't be reached"); n == 0 || n > 3 {
		t.Errorf("the log has %d lines about it:\n%s", n, log)
	}
	d.slam.Store(false)
	eventually(t, "it is used when it lasts", s.Ready)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   gosync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }
