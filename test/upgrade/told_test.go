package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/socketplane/socketplane/test/lab"
)

// place is a container on a network, as `socketplane endpoint ls` tells it.
type place struct {
	Network, Host, Container string
	Addrs                    []string
	Labels                   map[string]string
}

// told demands that on each host, whichever release its agent is of, the command line tells of all hosts as alive and of all containers with their addresses and labels.
func (w *world) told(ctx context.Context, guests []*container) {
	w.t.Helper()
	all := append(slices.Clone(w.standing), guests...)
	w.each(func(h *lab.Host) error {
		return until(ctx, func(ctx context.Context) error {
			var of struct {
				Hosts []struct {
					Name  string
					Alive bool
				}
				Endpoints []place
			}
			for _, kind := range []string{"host", "endpoint"} {
				out, err := h.SocketPlane(ctx, kind, "ls", "--format", "json")
				if err == nil {
					err = json.Unmarshal([]byte(out), &of)
				}
				if err != nil {
					return fmt.Errorf("%s ls on %s: %w", kind, h.Name, err)
				}
			}
			for _, one := range of.Hosts {
				if !one.Alive {
					return fmt.Errorf("%s takes %s for down", h.Name, one.Name)
				}
			}
			if len(of.Hosts) != hosts {
				return fmt.Errorf("%s tells of %d hosts", h.Name, len(of.Hosts))
			}
			for _, c := range all {
				for network, a := range c.on {
					if !slices.ContainsFunc(of.Endpoints, func(p place) bool { return p.is(c, network, a) }) {
						return fmt.Errorf("%s does not tell of %s of %s on %s with %+v: %+v", h.Name, c.name, c.h.Name, network, a, of.Endpoints)
					}
				}
			}
			return nil
		})
	})
}

func (p place) is(c *container, network string, a attachment) bool {
	return p.Network == network && p.Host == c.h.Name && p.Container == c.name && p.Labels["of"] == c.h.Name &&
		slices.Contains(p.Addrs, a.IPAddress) && (a.GlobalIPv6Address == "" || slices.Contains(p.Addrs, a.GlobalIPv6Address))
}
