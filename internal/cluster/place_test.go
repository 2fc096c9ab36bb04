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
