package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestAddressesWithoutConsul: without Consul containers start on every host as long as it has spare addresses, which
// differ from all others; then Docker is told what is missing. Afterwards everything is released and agrees again.
func TestAddressesWithoutConsul(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 6*time.Minute)
	n := w.network(ctx, t, "spare", "--subnet", "10.71.0.0/24")
	var mu sync.Mutex
	given := map[string]string{} // address to host and container
	note := func(h *lab.Host, c *container) error {
		mu.Lock()
		defer mu.Unlock()
		if has := given[c.addr.String()]; has != "" {
			return fmt.Errorf("%s was given to %s and to %s", c.addr, has, h.Name)
		}
		given[c.addr.String()] = h.Name
		return nil
	}
	// The first container of a network brings the host's spares.
	for _, c := range n.runOnEach(ctx, t, "spare", nil) {
		if err := note(c.h, c); err != nil {
			t.Fatal(err)
		}
	}
	const most = 12
	cleanup(t, w.Consul.Start)
	cleanup(t, func(ctx context.Context) error {
		return w.each(func(h *lab.Host) error {
			for i := range most {
				if err := remove(ctx, h, fmt.Sprint("spare-", i)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	w.Consul.Stop()
	err := w.each(func(h *lab.Host) error {
		for i := range most {
			c, err := w.run(ctx, h, fmt.Sprint("spare-", i), "--network", n.name)
			if err == nil {
				err = note(h, c)
				if err != nil {
					return err
				}
				continue
			}
			if i < 2 {
				return fmt.Errorf("after %d containers: %w", i, err)
			}
			for _, part := range []string{"no spare address of 10.71.0.0/24 is left", "onsul", w.Consul.Addr} {
				if !strings.Contains(err.Error(), part) {
					return fmt.Errorf("the error does not say %q: %w", part, err)
				}
			}
			t.Logf("%s: %d containers started without Consul, then: %v", h.Name, i, err)
			// A released address can be used at once: nothing else is there.
			if err := remove(ctx, h, "spare-0"); err != nil {
				return err
			}
			if err := remove(ctx, h, fmt.Sprint("spare-", i)); err != nil {
				return err
			}
			_, err = w.run(ctx, h, fmt.Sprint("spare-", i), "--network", n.name)
			return err
		}
		return errors.New("spares never end")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Consul.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		c, err := w.run(ctx, w.Hosts[0], "spare-back", "--network", n.name)
		if err != nil {
			return errors.Join(err, remove(ctx, w.Hosts[0], "spare-back"))
		}
		return errors.Join(note(w.Hosts[0], c), remove(ctx, w.Hosts[0], "spare-back"))
	})
	ids, err := w.Hosts[0].SocketPlane(ctx, "network", "ls", "--quiet")
	if err != nil {
		t.Fatal(err)
	}
	shown := ""
	for id := range strings.FieldsSeq(ids) {
		if out, err := w.Hosts[0].SocketPlane(ctx, "network", "inspect", id); err != nil {
			t.Error(err)
		} else if strings.Contains(out, "10.71.0.0/24") {
			shown = out
		}
	}
	if !strings.Contains(shown, "SPARE") {
		t.Errorf("socketplane network inspect does not show who has which addresses: %s", shown)
	}
	t.Log(shown)
}
