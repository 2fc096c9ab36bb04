package ovs_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// Networks come and go from several goroutines while the switch crashes; what was wanted last is true in the end.
func TestChurn(t *testing.T) {
	h := newHost(t)
	h.opts.Resync = 100 * time.Millisecond
	h.start()
	before := h.state()
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			for i := range 20 {
				n := peer(network(name, 1), name, "127.0.0.2", byte(2+i))
				// New links each time, as the driver does.
				n.Local[0].HostLink = dataplane.LinkName("sph", name, fmt.Sprint(i))
				n.Local[0].PeerLink = dataplane.LinkName("spp", name, fmt.Sprint(i))
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				// Any of these may fail while the switch is away.
				_ = h.agent.Attach(ctx, n, n.Local[0].ID)
				_ = h.agent.SetNetwork(ctx, peer(network(name), name, "127.0.0.2", 2))
				_ = h.agent.RemoveNetwork(ctx, n.ID)
				cancel()
			}
		})
	}
	for range 2 {
		h.ovs.StopVswitchd()
		h.ovs.StartVswitchd()
	}
	wg.Wait()
	eventually(t, "nothing is left", func() error {
		if err := h.agent.Ready(); err != nil {
			return err
		}
		return same(h, before)
	})
}
