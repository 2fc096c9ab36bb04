package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// fifty creates 50 networks on three hosts at once and removes them, each on another host than it was created on.
func (w *once) fifty(ctx context.Context, t *testing.T) {
	const n = 50
	rounds := 2
	if os.Getenv("SOCKETPLANE_TEST_LONG") != "" {
		rounds = 10
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	onAll := func(shift int, do func(h *lab.Host, name string) error) error {
		var g errgroup.Group
		for k, h := range w.Hosts {
			g.Go(func() error {
				for i := k; i < n; i += len(w.Hosts) {
					if err := do(h, names[(i+shift)%n]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
	for round := range rounds {
		began := time.Now()
		err := onAll(0, func(h *lab.Host, name string) error {
			_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		created := time.Since(began)
		w.have(ctx, t, 2*time.Minute, w.Hosts, names...)
		settled := time.Since(began) - created
		began = time.Now()
		err = onAll(1, func(h *lab.Host, name string) error {
			_, err := h.Docker(ctx, "network", "rm", name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		removed := time.Since(began)
		w.only(ctx, t, 2*time.Minute)
		t.Logf("round %d: created in %v, everywhere %v later; removed in %v, nothing left %v later", round, created.Round(time.Millisecond),
			settled.Round(time.Millisecond), removed.Round(time.Millisecond), (time.Since(began) - removed).Round(time.Millisecond))
	}
}
