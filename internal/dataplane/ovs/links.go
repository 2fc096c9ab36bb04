package ovs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/retry"
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

// mendLinks sets up the host ends that were set down, and gives back the MTU with which they were made: packets to the switch that are larger than a
// host end's MTU are lost. One that is missing went with its container's namespace, and a new one would lead nowhere.
func (r *Reconciler) mendLinks(ctx context.Context, n *network) error {
	var errs []error
	for _, e := range n.want.Local {
		if l, ok := r.owned[e.HostLink]; ok && e.Attached && (!l.Up || e.MTU != 0 && l.MTU != e.MTU) {
			errs = append(errs, r.links.EnsureVeth(ctx, r.veth(n.want, e)))
		}
	}
	return errors.Join(errs...)
}

// strays is the memory of clearLinks.
type strays struct {
	pause   retry.Pause
	last    time.Time // when something was removed
	next    time.Time // when it is looked again, at the earliest
	full    bool      // that look is a full one
	trouble retry.Trouble
}

// Pauses between removals. A program that puts back at once what was removed gets longer and longer ones: else both would do nothing else.
const (
	strayMin, strayMax = 100 * time.Millisecond, 10 * time.Second
	// strayRest is how long nothing must have been put on a link for the next removal to be soon again, and to be logged.
	strayRest = time.Minute
)

func newStrays(log *slog.Logger) strays {
	return strays{
		pause: retry.Pause{First: strayMin, Last: strayMax, Steady: strayRest},
		trouble: retry.Trouble{Logger: log, Level: slog.LevelWarn, Steady: strayRest,
			Text: "something that another program put on a link of ours is removed; if that goes on, keep NetworkManager, systemd-networkd or dhcpcd off it (docs/operations.md)"},
	}
}

// clearLinks removes addresses that other programs put on our links, and with full also routes without an address.
func (r *Reconciler) clearLinks(ctx context.Context, full bool) error {
	full = full || r.strays.full
	if r.strays.full = full; time.Now().Before(r.strays.next) {
		return nil
	}
	r.strays.next, r.strays.full = time.Time{}, false
	removed, err := r.links.RemoveStrays(ctx, full, r.sw.Bridge())
	if len(removed) == 0 {
		r.strays.trouble.Note(nil)
		return err
	}
	now := time.Now()
	r.strays.next = now.Add(r.strays.pause.Next(now.Sub(r.strays.last)))
	r.strays.last = now
	for _, s := range removed {
		r.strays.trouble.Note(fmt.Errorf("%s on %s", s.What, s.Link))
	}
	r.setStatus(func(s *Status) {
		s.Drift.Strays += uint64(len(removed))
		s.Drift.StraysAt, s.Drift.Stray = now, removed[0].What+" on "+removed[0].Link
	})
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
