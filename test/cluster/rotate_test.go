package cluster

import (
	"context"
	"fmt"
)

// keysRotate locks the cluster, which changes all of its keys, and opens it again: containers talk throughout, and what changes meanwhile gets through.
func keysRotate(w *world) {
	before, err := keysOf(w.ctx, w.Hosts[0])
	w.must(err)
	talks := []*talk{w.talking(w.Hosts[2], w.Hosts[3], web), w.talking(w.Hosts[3], w.Hosts[2], web)}
	w.survive(nil, func() {
		_, _, err := w.insist(w.Hosts[1], "", "cluster", "lock")
		w.must(err)
	})
	w.epoch(w.Hosts, before.Epoch+3) // a new CA is told, used, and alone: three steps
	for _, k := range talks {
		w.quiet(k, unheard)
	}
	w.tidy()
	w.eventually("the cluster is open again", patience, func(ctx context.Context) error {
		if _, err := w.Hosts[2].SocketPlane(ctx, "cluster", "unlock"); err != nil {
			return err
		}
		for _, h := range w.Hosts {
			if s, err := keysOf(ctx, h); err != nil || s.Locked {
				return fmt.Errorf("%s: locked %t, %v", h.Name, s.Locked, err)
			}
		}
		return nil
	})
	w.whole(3)
}
