package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/testenv/crashpoints"
)

// unreached are the crash points that no life comes to, and why.
var unreached = map[string]string{
	"credentials: give a new file up": "a full disk",
}

// mortal is a host that dies at its crash points, one after the other, and is started again.
type mortal struct {
	*host
	t     *testing.T
	dir   string
	left  []string // points that it has not died at
	armed string
}

// TestCrashAtEveryWrite: a host is killed at each of its writes while it joins, becomes a server, leaves, founds, makes a network, takes it along to
// another cluster, and changes its keys. In the end it is where it should be each time.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	s.binary = filepath.Join(t.TempDir(), "cluster.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "crashpoints", "-o", s.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	a, c := s.host(), s.host()
	a.start()
	s.await("a cluster", patience, func() bool { return formed(1, a) })
	m := &mortal{host: s.host(), t: t, dir: t.TempDir()}
	m.env = []string{crashpoint.DirVar + "=" + m.dir}
	c.start()
	s.await("a cluster of two", patience, func() bool { return formed(1, a, c) })

	m.life(0, a, c) // nothing happens to it: what it comes by
	seen := m.hits()
	for _, point := range points(t) {
		switch {
		case unreached[point] != "":
		case !slices.Contains(seen, point):
			t.Errorf("crash point %q is reached by no step: add one that does", point)
		default:
			m.left = append(m.left, point)
		}
	}
	slices.SortFunc(m.left, func(x, y string) int { return slices.Index(seen, x) - slices.Index(seen, y) })
	all := len(m.left)
	for n := 1; len(m.left) > 0; n++ {
		before := len(m.left)
		m.life(n, a, c)
		if len(m.left) == before {
			t.Fatalf("it does not die at %q", m.left)
		}
		t.Logf("life %d: %d deaths", n, before-len(m.left))
	}
	if all < 20 {
		t.Errorf("only %d crash points: the test looks for the wrong things", all)
	}
}

// life is what a host may go through, from its arrival on the segment until all its traces are gone.
func (m *mortal) life(n int, a, c *host) {
	all := []*host{a, c, m.host}
	name := fmt.Sprint("net", n)
	m.arm()
	m.start()
	m.until("it has joined, and there are three servers", func() bool { return formed(3, all...) }, nil)
	m.until("it has left", func() bool { return m.status().State == cluster.Alone }, func() { _ = m.ask("/leave", nil) })
	m.until("it has founded a cluster", func() bool { return formed(1, m.host) }, func() { _ = m.ask("/init", nil) })
	m.until("it has a network", func() bool { return m.networks() == name }, func() {
		_ = m.ask(fmt.Sprintf("/create?host=%s&name=%s&subnet=10.99.%d.0/24", m.cfg.ID, name, n), nil)
	})
	m.until("it has moved", func() bool { return formed(3, all...) }, func() { _ = m.ask("/join?addr="+a.cfg.Addr.String()+":4780", nil) })
	m.until("its network has moved, too", func() bool { return slices.Contains(strings.Fields(a.networks()), name) }, nil)
	epoch := a.status().Epoch
	m.until("keys have changed", func() bool {
		st := m.status()
		return st.Locked && st.Epoch >= epoch+3 && a.status().Locked
	}, func() { _ = a.ask("/lock", nil) })
	m.until("the cluster is open again", func() bool { return !m.status().Locked && !a.status().Locked && formed(3, all...) }, func() { _ = a.ask("/unlock", nil) })
	m.until("it has left for good", func() bool { return m.status().State == cluster.Alone }, func() { _ = m.ask("/leave", nil) })
	m.disarm()
	m.crash()
	if err := os.RemoveAll(m.cfg.Dir); err != nil {
		m.t.Fatal(err)
	}
	m.s.await("the others are two", patience, func() bool { return formed(1, a, c) })
}

// until waits for ok; meanwhile the host dies and is started again, and is asked now and then, as who is not answered asks again.
func (m *mortal) until(what string, ok func() bool, ask func()) {
	m.t.Helper()
	asked := time.Time{}
	m.s.await(what, patience, func() bool {
		if !m.proc.Running() {
			m.died()
			m.start()
		}
		if ok() {
			return true
		}
		if ask != nil && time.Since(asked) > 2*time.Second && m.proc.Running() {
			ask()
			asked = time.Now()
		}
		return false
	})
}

func (m *mortal) died() {
	m.t.Helper()
	if m.armed == "" || !m.fired() {
		m.t.Fatalf("it died by itself:\n%s", m.proc.Tail(30))
	}
	m.left = slices.DeleteFunc(m.left, func(point string) bool { return point == m.armed })
	m.arm()
}

func (m *mortal) fired() bool {
	_, err := os.Stat(filepath.Join(m.dir, "fired"))
	return err == nil
}

// arm has the host die at the next point.
func (m *mortal) arm() {
	m.disarm()
	if len(m.left) == 0 {
		return
	}
	m.armed = m.left[0]
	if err := os.WriteFile(filepath.Join(m.dir, "armed"), []byte("1 "+m.armed), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mortal) disarm() {
	m.armed = ""
	for _, name := range []string{"armed", "fired"} {
		if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// hits are the points that the host came by, in the order in which it first did.
func (m *mortal) hits() (names []string) {
	text, err := os.ReadFile(filepath.Join(m.dir, "hits"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, name := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// points are the crash points of this package and those below it.
func points(t *testing.T) []string {
	t.Helper()
	names, err := crashpoints.Names([]string{"."})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
