package reconcile

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/hostlink"
)

// listOwned notes the links of ours that the kernel has.
func (r *Reconciler) listOwned(ctx context.Context) error {
	links, err := r.links.Owned(ctx)
	if err != nil {
		return err
	}
	r.owned = make(map[string]hostlink.Link, len(links))
	for _, l := range links {
		r.owned[l.Name] = l
	}
	return nil
}

// inspect finds out whether the device is as it was made.
func (n *network) inspect(owned map[string]hostlink.Link, full bool) {
	made := n.device.made
	l, ok := owned[made.Name]
	switch {
	case made.Name == "":
	case !ok:
		// The switch would hold on to the device that went, so the next one has another name and port.
		n.device, n.entered = device{}, false
	case full || !l.Up || l.MTU != made.MTU:
		n.distrust()
	}
}

// mendLinks sets up the host ends that somebody set down. One that is missing went with its
// container's namespace, and a new one would lead nowhere.
func (r *Reconciler) mendLinks(ctx context.Context, n *network) error {
	var errs []error
	for _, e := range n.want.Local {
		if l, ok := r.owned[e.HostLink]; ok && e.Attached && !l.Up {
			errs = append(errs, r.links.EnsureVeth(ctx, r.veth(n.want, e)))
		}
	}
	return errors.Join(errs...)
}

// clearLinks removes addresses that other programs put on our links, and with full also routes without an address.
func (r *Reconciler) clearLinks(ctx context.Context, full bool) error {
	removed, err := r.links.RemoveStrays(ctx, full, r.sw.Bridge())
	for _, s := range removed {
		r.log.Warn("something that another program put on a link of ours is removed; if that goes on, keep NetworkManager, systemd-networkd or dhcpcd off it (docs/operations.md)",
			"link", s.Link, "what", s.What)
	}
	if len(removed) > 0 {
		r.setStatus(func(s *Status) {
			s.Drift.Strays += uint64(len(removed))
			s.Drift.StraysAt, s.Drift.Stray = time.Now(), removed[0].What+" on "+removed[0].Link
		})
	}
	return err
}

// collectLinks removes links of ours that belong to no endpoint or device that is known.
func (r *Reconciler) collectLinks(ctx context.Context) error {
	keep := map[string]bool{}
	for _, n := range r.networks {
		keep[n.device.name] = true
		for _, e := range n.want.Local {
			keep[e.HostLink] = true
		}
	}
	var errs []error
	for name, l := range r.owned {
		if keep[name] || name == hostlink.ReservedName { // which internal/subnets keeps
			continue
		}
		r.log.Info("removing a link that nothing needs", "link", name, "alias", l.Alias)
		r.setStatus(func(s *Status) { s.Drift.Links++ })
		errs = append(errs, r.links.DeleteLink(ctx, name))
	}
	return errors.Join(errs...)
}
