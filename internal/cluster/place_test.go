package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// alone is a host at an address that asks a host which is not there to be admitted, and needs no Consul for that.
func alone(t *testing.T, addr string) *Cluster {
	t.Helper()
	c, err := New(Options{
		Host: store.NewNonce(), Name: "alone", Addr: netip.MustParseAddr(addr), Port: 4780, Dir: t.TempDir(), Consul: "none",
		Join: []string{"127.0.0.1:1"}, Silent: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLeaderHost: the host beside Raft's leader knows that by its own address, whatever the records of others say.
func TestLeaderHost(t *testing.T) {
	c := alone(t, "192.0.2.1")
	member := func(id, addr string) store.Member {
		return store.Member{ID: id, Addr: netip.MustParseAddr(addr), Port: 4780}
	}
	own := member(c.opts.Host, "192.0.2.1")
	for name, tc := range map[string]struct {
		members []store.Member
		leader  string
		want    string
	}{
		"own address":                         {[]store.Member{own, member("other", "192.0.2.2")}, "192.0.2.1:4781", own.ID},
		"another record has it too":           {[]store.Member{own, member("other", "192.0.2.1")}, "192.0.2.1:4781", own.ID},
		"another record has it first":         {[]store.Member{member("other", "192.0.2.1"), own}, "192.0.2.1:4781", own.ID},
		"own record is old":                   {[]store.Member{member(own.ID, "192.0.2.9"), member("other", "192.0.2.1")}, "192.0.2.1:4781", own.ID},
		"another host leads":                  {[]store.Member{own, member("other", "192.0.2.2")}, "192.0.2.2:4781", "other"},
		"another host has the old address":    {[]store.Member{member(own.ID, "192.0.2.2"), member("other", "192.0.2.2")}, "192.0.2.2:4781", "other"},
		"nobody but an old record of its own": {[]store.Member{member(own.ID, "192.0.2.2")}, "192.0.2.2:4781", ""},
		"none":                                {[]store.Member{own}, "", ""},
	} {
		if got := c.leaderHost(tc.members, tc.leader); got != tc.want {
			t.Errorf("%s: the leader is at host %q, want %q", name, got, tc.want)
		}
	}
}

// TestAskedWhileMoving: users ask while the host gets another address. The race detector looks on.
func TestAskedWhileMoving(t *testing.T) {
	c := alone(t, "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		for ctx.Err() == nil {
			_, _, _ = c.host(), c.subject(), c.self()
			_ = c.Status()
		}
	})
	for n := range 20 {
		to := netip.AddrFrom4([4]byte{127, 0, 1, byte(n)})
		c.Move(to, "lo")
		if err := testenv.Poll(ctx, time.Millisecond, func() bool {
			return c.host().Addr == to && c.subject().Addr == to && c.self().Addr.Addr() == to
		}); err != nil {
			t.Fatalf("the host is at %s, and was moved to %s", c.host().Addr, to)
		}
	}
}
