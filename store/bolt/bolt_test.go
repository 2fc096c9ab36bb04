package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/storetest"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// open opens a store that is closed when the test ends.
func open(t testing.TB, path string, opts bolt.Options) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	for name, opts := range map[string]bolt.Options{"sync": {}, "no-sync": {NoSync: true}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.KV {
				return open(t, filepath.Join(t.TempDir(), "test.db"), opts)
			})
		})
	}
}

func put(key, value string) store.Op {
	return store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}
}

// TestReopen: what was written is there with its version, versions go on, and
// a watch over the restart sees what changed.
func TestReopen(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "test.db")
	first := open(t, path, bolt.Options{})
	if err := first.Apply(ctx, put("a", "1")); err != nil {
		t.Fatal(err)
	}
	before, err := first.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	_, index, err := first.Watch(ctx, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}

	second := open(t, path, bolt.Options{})
	after, err := second.Get(ctx, "a")
	if err != nil || after.Version != before.Version || string(after.Value) != "1" {
		t.Fatalf("got %+v, %v, want %+v", after, err, before)
	}
	if err := second.Apply(ctx, put("a", "2")); err != nil {
		t.Fatal(err)
	}
	entries, next, err := second.Watch(ctx, "a", index)
	if err != nil || next <= index || len(entries) != 1 || entries[0].Version <= before.Version {
		t.Fatalf("Watch = %+v, %d, %v", entries, next, err)
	}
	// An index of a file that was further on: everything is read anew.
	if _, lower, err := second.Watch(ctx, "a", next+1000); err != nil || lower != next {
		t.Fatalf("Watch since a later index = %d, %v, want %d", lower, err, next)
	}
}

// TestStaleAnnouncement: the file of a process that was killed has an announced
// key; it is gone when the next one has opened it.
func TestStaleAnnouncement(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	live, killed := filepath.Join(dir, "live.db"), filepath.Join(dir, "killed.db")
	s := open(t, live, bolt.Options{})
	if err := s.Apply(ctx, put("other", "1")); err != nil {
		t.Fatal(err)
	}
	announcing, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Announce(announcing, "alive", []byte("1"), time.Second) }()
	_, index, err := s.Watch(ctx, "alive", 0)
	for entries := []store.Entry(nil); len(entries) == 0 && err == nil; {
		entries, index, err = s.Watch(ctx, "alive", max(index-1, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is being written now, so a copy is what a kill would leave.
	data, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(killed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended

	next := open(t, killed, bolt.Options{})
	if _, err := next.Get(ctx, "alive"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the announced key: %v", err)
	}
	if _, err := next.Get(ctx, "other"); err != nil {
		t.Errorf("another key: %v", err)
	}
	if _, now, err := next.Watch(ctx, "", 0); err != nil || now <= index {
		t.Errorf("index %d, %v after %d: the removal would be missed", now, err, index)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	inUse, garbage, short := filepath.Join(dir, "in-use.db"), filepath.Join(dir, "garbage.db"), filepath.Join(dir, "short.db")
	s := open(t, inUse, bolt.Options{})
	for range 20 {
		if err := s.Apply(context.Background(), put("k", strings.Repeat("v", 60_000)), put("l", "w")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(garbage, []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(inUse)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(short, data[:16384], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
		text       string
	}{
		{"in-use", inUse, store.ErrUnavailable, "another process"},
		{"garbage", garbage, store.ErrInvalid, "damaged"},
		{"cut-off", short, store.ErrInvalid, "damaged"},
		{"no-directory", filepath.Join(dir, "none", "x.db"), os.ErrNotExist, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Now()
			s, err := bolt.Open(c.path, bolt.Options{})
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("Open = %v", err)
			}
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("Open took %s", d)
			}
		})
	}
}

// TestOpensWhenMended: an open that failed keeps nothing locked and leaves nothing half made, so that the same process can open the file once it is
// well again.
func TestOpensWhenMended(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.db")
	s := open(t, good, bolt.Options{})
	for range 20 {
		if err := s.Apply(context.Background(), put("k", strings.Repeat("v", 60_000)), put("l", "w")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{
		"garbage": []byte(strings.Repeat("garbage ", 4096)), "cut-off": data[:16384], "a page of zeros": zeroed(data, 2), "a root of zeros": zeroed(data, 3),
		"all pages but meta data are zeros": zeroed(data, 2, 3, 4, 5, 6, 7, 8, 9),
	}
	for name, text := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if s, err := bolt.Open(path, bolt.Options{}); err == nil {
					_ = s.Close()
					t.Fatal("it was opened")
				} else if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "damaged") {
					t.Fatalf("Open = %v", err)
				}
			}
			// The same file, not another one in its place: a lock that was kept would show.
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := bolt.Open(path, bolt.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if e, err := s.Get(t.Context(), "l"); err != nil || string(e.Value) != "w" {
				t.Errorf("read %q, %v", e.Value, err)
			}
		})
	}
}

// zeroed is a file with some of its pages overwritten.
func zeroed(data []byte, pages ...int) []byte {
	data = bytes.Clone(data)
	for _, p := range pages {
		clear(data[p*os.Getpagesize() : (p+1)*os.Getpagesize()])
	}
	return data
}

// TestFullDisk: a file that could not be made for want of space is made when there is some.
func TestFullDisk(t *testing.T) {
	testenv.Root(t)
	const size = 64 << 10
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path, ballast := filepath.Join(dir, "x.db"), filepath.Join(dir, "ballast")
	for free := range 8 { // pages: at each of the steps in which a file is made
		if err := os.WriteFile(ballast, make([]byte, size-free*os.Getpagesize()), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := bolt.Open(path, bolt.Options{})
		if err == nil {
			if free < 5 {
				t.Errorf("%d pages are enough", free)
			}
			_ = s.Close()
			_ = os.Remove(path)
			continue
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("with %d pages: %v", free, err)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if s, err = bolt.Open(path, bolt.Options{}); err != nil {
			t.Fatalf("%d pages had been free: %v", free, err)
		}
		_ = s.Close()
		_ = os.Remove(path)
	}
}
