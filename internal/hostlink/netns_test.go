package hostlink

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/vishvananda/netns"
)

// space is a network namespace of one test, with Links that work in it though the test's threads are elsewhere.
type space struct {
	*Links
	t      *testing.T
	name   string
	cables int // of its interfaces
}

// spaces numbers them within this test program.
var spaces atomic.Int32

func newSpace(t *testing.T) *space {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ip", "ethtool", "ping")
	s := &space{t: t, name: fmt.Sprintf("sphl%d-%d", os.Getpid(), spaces.Add(1))}
	run(t, "ip", "netns", "add", s.name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", s.name) })
	s.ip("link", "set", "lo", "up")
	s.do(func() (err error) {
		s.Links, err = New(Options{})
		return err
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// do runs f on a thread of the namespace.
func (s *space) do(f func() error) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			before, err := netns.Get()
			if err != nil {
				return err
			}
			defer before.Close()
			target, err := netns.GetFromName(s.name)
			if err != nil {
				return err
			}
			defer target.Close()
			if err := netns.Set(target); err != nil {
				return err
			}
			err = f()
			if back := netns.Set(before); back != nil {
				return back // The thread stays locked and dies with this goroutine.
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// ip runs ip in the namespace and gives its output.
func (s *space) ip(args ...string) string {
	s.t.Helper()
	return run(s.t, "ip", append([]string{"-n", s.name}, args...)...)
}

// exec runs a program in the namespace.
func (s *space) exec(args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", s.name}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *space) must(args ...string) string {
	s.t.Helper()
	out, err := s.exec(args...)
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// shown is what `ip -json -d link show` says about a link.
type shown struct {
	Name    string   `json:"ifname"`
	Index   int      `json:"ifindex"`
	MTU     int      `json:"mtu"`
	Flags   []string `json:"flags"`
	Address string   `json:"address"`
	Alias   string   `json:"ifalias"`
	GenMode string   `json:"inet6_addr_gen_mode"`
	Info    struct {
		Kind string         `json:"info_kind"`
		Data map[string]any `json:"info_data"`
	} `json:"linkinfo"`
}

func (s shown) up() bool {
	for _, f := range s.Flags {
		if f == "UP" {
			return true
		}
	}
	return false
}

func (s *space) show(name string) shown {
	s.t.Helper()
	var links []shown
	if err := json.Unmarshal([]byte(s.ip("-json", "-d", "link", "show", name)), &links); err != nil || len(links) != 1 {
		s.t.Fatalf("link %s: %v, %d links", name, err, len(links))
	}
	return links[0]
}

func (s *space) exists(name string) bool {
	link, err := s.find(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return link != nil
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually polls a condition for some seconds.
func eventually(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := testenv.Poll(ctx, 20*time.Millisecond, ready); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
