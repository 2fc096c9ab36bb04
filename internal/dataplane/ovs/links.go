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
func (p *Plane) listOwned(ctx context.Context) error {
	links, err := p.links.Owned(ctx)
	if err != nil {
		return err
	}
	p.owned, p.left = make(map[string]hostlink.Link, len(links)), map[string]bool{}
	for _, l := range links {
		p.owned[l.Name] = l
	}
	return nil
}

// inspect finds out whether the device is as it was made. With full it is looked at with its entries, unless they are many and it is not their time.
func (n *network) inspect(owned map[string]hostlink.Link, full, often bool) {
	made := n.device.made
	l, ok := owned[made.Name]
	switch {
	case made.Name == "":
	case !ok:
		// The switch would hold on to the device that went, so the next one has another name and port.
		n.device, n.entered = device{}, false
	case !l.Up || l.MTU != made.MTU || full && often:
		n.distrust()
	}
}

// mendLinks sets up the host ends that were set down, and gives back the MTU with which they were made: packets to the switch that are larger than a
// host end's MTU are lost. One that is missing went with its container's namespace, and a new one would lead nowhere.
func (p *Plane) mendLinks(ctx context.Context, n *network) error {
	var broken []hostlink.Veth
	p.mu.Lock()
	for _, s := range n.local {
		e := s.local
		if l, ok := p.owned[e.HostLink]; ok && e.Attached && !n.gone && (!l.Up || e.MTU != 0 && l.MTU != e.MTU) {
			broken = append(broken, p.veth(n.mtu, *e))
		}
	}
	p.mu.Unlock()
	var errs []error
	for _, v := range broken {
		errs = append(errs, p.links.EnsureVeth(ctx, v))
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
func (p *Plane) clearLinks(ctx context.Context, full bool) error {
	full = full || p.strays.full
	if p.strays.full = full; time.Now().Before(p.strays.next) {
		return nil
	}
	p.strays.next, p.strays.full = time.Time{}, false
	removed, err := p.links.RemoveStrays(ctx, full, p.sw.Bridge())
	if len(removed) == 0 {
		p.strays.trouble.Note(nil)
		return err
	}
	now := time.Now()
	p.strays.next = now.Add(p.strays.pause.Next(now.Sub(p.strays.last)))
	p.strays.last = now
	for _, s := range removed {
		p.strays.trouble.Note(fmt.Errorf("%s on %s", s.What, s.Link))
	}
	p.setStatus(func(s *Status) {
		s.Drift.Strays += uint64(len(removed))
		s.Drift.StraysAt, s.Drift.Stray = now, removed[0].What+" on "+removed[0].Link
	})
	return err
}

// collectLinks removes links of ours that belong to no endpoint or device that is known.
func (p *Plane) collectLinks(ctx context.Context) error {
	keep := map[string]bool{}
	p.mu.Lock()
	for _, n := range p.networks {
		keep[n.device.name] = true
		for name := range n.links {
			keep[name] = !n.gone
		}
	}
	p.mu.Unlock()
	var errs []error
	for name, l := range p.owned {
		if keep[name] || name == hostlink.ReservedName { // which internal/subnets keeps
			continue
		}
		p.log.Info("removing a link that nothing needs", "link", name, "alias", l.Alias)
		p.setStatus(func(s *Status) { s.Drift.Links++ })
		errs = append(errs, p.links.DeleteLink(ctx, name))
	}
	return errors.Join(errs...)
}
