package cluster_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// alone gives a host that has not started a file with a network.
func (h *host) alone(name, subnet string) {
	h.s.t.Helper()
	if err := os.MkdirAll(h.cfg.Dir, 0o700); err != nil {
		h.s.t.Fatal(err)
	}
	kv, err := bolt.Open(h.file(), bolt.Options{})
	if err != nil {
		h.s.t.Fatal(err)
	}
	_, err = store.NewCluster(kv, h.cfg.ID).Create(h.s.t.Context(), newNetwork(name, subnet))
	if err := errors.Join(err, kv.Close()); err != nil {
		h.s.t.Fatal(err)
	}
}

// TestCarried: a host that was alone takes its networks along; one whose networks collide goes on alone, and comes when they don't any more; a
// host that is alone in its cluster takes them to another one.
func TestCarried(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	a := s.host()
	a.start()
	s.await("a cluster", patience, func() bool { return formed(1, a) })
	a.must("/create?name=web&subnet=10.50.0.0/24&host=" + a.cfg.ID)
	b := s.host()
	b.alone("db", "10.51.0.0/24")
	b.start()
	s.await("the second host", patience, func() bool { return formed(1, a, b) })
	for _, h := range s.hosts {
		h.reads("/networks", "db web")
	}
	if _, err := os.Stat(b.file()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a host that is in a cluster: %v", err)
	}

	c := s.host()
	c.alone("web", "10.52.0.0/24")
	c.start()
	s.await("who collides is told so, and stays alone", patience, func() bool {
		st := c.status()
		return st.State == cluster.Alone && strings.Contains(st.Trouble, "another network web")
	})
	c.reads("/networks", "web")
	s.await("the others are as before", patience, func() bool { return formed(1, a, b) })
	a.reads("/networks", "db web")
	c.must("/init")
	s.await("it founds a cluster of its own", patience, func() bool { return formed(1, c) && c.networks() == "web" })

	d := s.host()
	d.cfg.Join = []string{c.cfg.Addr.String() + ":4780"}
	d.alone("cache", "10.53.0.0/24")
	d.start()
	s.await("another host joins that one", patience, func() bool { return formed(1, c, d) && c.networks() == "cache web" })
	if err := c.ask("/leave?force=1", nil); err != nil {
		t.Fatal(err)
	}
	s.await("and is left by it", patience, func() bool { return c.status().State == cluster.Alone })
}

// TestNewerClusterIsLeftAlone: a host whose agent is older than a cluster's data takes no networks there and uses nothing of it, whatever it
// was in before; and says so.
func TestNewerClusterIsLeftAlone(t *testing.T) {
	s := newSegment(t)
	a := s.host()
	a.start()
	s.await("a cluster", patience, func() bool { return formed(1, a) })
	a.must("/schema?value=" + url.QueryEscape(`{"schema":99}`))
	b, c := s.host(), s.host()
	b.alone("db", "10.51.0.0/24")
	b.start()
	c.start()
	for _, h := range []*host{b, c} {
		s.await("it is told of the newer data", patience, func() bool {
			said := h.status().Trouble
			return strings.Contains(said, "has schema 99") && strings.Contains(said, "upgrade socketplane on this host")
		})
	}
	if got := b.networks(); got != "db" {
		t.Errorf("with its networks in its file, %s sees %q", b.cfg.Name, got)
	}
	if _, err := os.Stat(b.file()); err != nil {
		t.Errorf("the file of a host whose networks are not taken along: %v", err)
	}
	if err := c.ask("/put?key=x&value=y", nil); err == nil || !strings.Contains(err.Error(), "upgrade socketplane on this host") {
		t.Errorf("a write of an older agent: %v", err)
	}
	if got := a.networks(); got != "" {
		t.Errorf("the cluster has the networks %q", got)
	}
}
