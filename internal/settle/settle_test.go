package settle

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestWait: a call waits for packets that can be forwarded only for a while after the start, for a moment where no Open vSwitch listens, and no longer than Docker does.
func TestWait(t *testing.T) {
	up := func() <-chan struct{} { ch := make(chan struct{}); close(ch); return ch }
	never := func() <-chan struct{} { return make(chan struct{}) }
	none := filepath.Join(t.TempDir(), "db.sock")
	for _, c := range []struct {
		name    string
		s       Settler
		age     time.Duration
		patient time.Duration // Docker
		want    time.Duration
	}{
		{"forwards", Settler{Up: up, Socket: none}, 0, time.Minute, 0},
		{"no Open vSwitch", Settler{Up: never, Socket: none}, 0, time.Minute, switchWait},
		{"this process starts it", Settler{Up: never, Starts: true}, 0, time.Minute, Time},
		{"it was started long ago", Settler{Up: never, Starts: true}, time.Hour, time.Minute, 0},
		{"Docker gives up", Settler{Up: never, Starts: true}, 0, time.Second, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.patient)
				defer cancel()
				began := time.Now()
				c.s.Began = began.Add(-c.age)
				c.s.Wait(ctx)
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
			})
		})
	}
}

// TestComes: Open vSwitch's database that listens may answer in a moment.
func TestComes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db.sock")
	if (Settler{Socket: path}).comes() {
		t.Error("there is no socket")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !(Settler{Socket: path}).comes() {
		t.Error("the socket is served")
	}
}
