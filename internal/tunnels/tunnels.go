// Package tunnels keeps what is around this host's tunnels as they need it: the kernel's connection tracking away from their packets, and their port watched.
//
// It imports internal/notrack for the rules, internal/underlay for where tunnels end, and internal/doctor for the look at the port. It must not know the data plane.
package tunnels

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/notrack"
	"github.com/socketplane/socketplane/internal/underlay"
)

// Underlay is where tunnels end on this host. Subscribe is told when that may have changed.
type Underlay interface {
	Current() (underlay.Underlay, error)
	Subscribe(context.Context) <-chan struct{}
}

// Keeper looks after the tunnels of this host.
type Keeper struct {
	Underlay Underlay
	// VXLANPort is the tunnels' UDP port.
	VXLANPort uint16
	// Track lets the kernel track the tunnels' packets.
	Track bool
	// Port looks who else uses the port.
	Port   doctor.Check
	Logger *slog.Logger
}

// every is how often the rules that keep conntrack away from the tunnels are looked at: a firewall that is loaded again
// may remove them.
const every = time.Minute

// Run keeps the kernel's connection tracking away from the tunnels' packets, until ctx ends, and tells when Docker's swarm
// uses their port. The rules stay, as the tunnels do.
func (k Keeper) Run(ctx context.Context) error {
	changed := k.Underlay.Subscribe(ctx)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	said, told := "", ""
	for {
		err := k.untrack()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && err != nil {
			k.Logger.Warn("conntrack has entries for the tunnels' packets; containers talk all the same", "err", err)
		}
		said = text
		if taken := k.portTaken(ctx); taken != told {
			if told = taken; taken != "" {
				k.Logger.Error(taken)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-changed:
		}
	}
}

// portTaken says that another program or Docker's swarm uses the tunnels' port and can't share it; empty if nobody is known to.
func (k Keeper) portTaken(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, portAnswer)
	defer cancel()
	f := k.Port.Look(ctx)
	if f.State != adminapi.CheckBad {
		return ""
	}
	return f.Saw + ": " + f.Follows + ": " + f.Cure
}

// portAnswer bounds what Docker is asked about its swarm.
const portAnswer = 5 * time.Second

func (k Keeper) untrack() error {
	if k.Track {
		if err := notrack.Remove(); !errors.Is(err, notrack.ErrUnsupported) {
			return err
		}
		return nil
	}
	u, _ := k.Underlay.Current()
	if !u.Addr.IsValid() {
		return nil
	}
	return notrack.Ensure(u.Addr, k.VXLANPort)
}
