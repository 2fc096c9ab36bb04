package cluster_test

import (
	"testing"
	"time"
)

// patience is for anything that takes several starts of Consul on a busy machine.
const patience = 120 * time.Second

// TestGrowth: one host founds, the cluster grows to three servers, and a fourth host is a client.
func TestGrowth(t *testing.T) {
	s := newSegment(t)
	a := s.host()
	a.start()
	s.await("a cluster of one", patience, func() bool { return formed(1, a) })
	if err := a.put("k", "v"); err != nil {
		t.Fatal(err)
	}
	b, c := s.host(), s.host()
	b.start()
	s.await("the second host", patience, func() bool { return formed(1, a, b) })
	c.start()
	s.await("three servers", patience, func() bool { return formed(3, a, b, c) })
	d := s.host()
	d.start()
	s.await("the fourth host", patience, func() bool { return formed(3, a, b, c, d) })
	if got := d.get("k"); got != "v" {
		t.Errorf("the fourth host reads %q", got)
	}
}
