package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/probe"
	"github.com/socketplane/socketplane/internal/reconcile"
	"github.com/socketplane/socketplane/store"
)

// Bounds of probes. One through a tunnel is sent again and again until it is answered.
const (
	probeAnswer   = time.Second
	refusalAnswer = 2 * time.Second // the frames of the probe before it were refused too, of which Linux tells once a second
	tunnelAnswer  = 2 * time.Second
	probesAtOnce  = 16 // peers that are probed side by side
)

// smallProbe is what every host must take whole, in bytes (RFC 791).
const smallProbe = 576

// checkPeers probes every other host.
func (a *agent) checkPeers(ctx context.Context) []adminapi.Check {
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return nil // the store's check has said so
	}
	// Where no container uses a network, there may be no tunnel yet, and so nobody at the port.
	users := map[string]bool{}
	networks, err := a.cluster.Networks(ctx)
	if err != nil {
		return nil
	}
	for _, n := range networks {
		hosts, err := a.cluster.Users(ctx, n.ID)
		if err != nil {
			return nil
		}
		for _, id := range hosts {
			users[id] = true
		}
	}
	var hosts []store.Host
	for id, h := range members.Hosts {
		if id != a.cluster.Host() && h.VTEP.IsValid() {
			hosts = append(hosts, h)
		}
	}
	slices.SortFunc(hosts, func(a, b store.Host) int { return cmp.Compare(a.Name, b.Name) })
	checks := make([]adminapi.Check, len(hosts))
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	for i, h := range hosts {
		group.Go(func() error {
			began := time.Now()
			checks[i] = a.checkPeer(ctx, h, users[h.ID])
			checks[i].Took = time.Since(began)
			return nil
		})
	}
	_ = group.Wait()
	return checks
}

// checkPeer looks at the tunnel to a host, and at how large a packet gets there whole. used says that containers of that host use a
// network, so that somebody listens at its port.
func (a *agent) checkPeer(ctx context.Context, h store.Host, used bool) adminapi.Check {
	name := "way to " + h.Name
	_, tunnel := within(ctx, tunnelAnswer, func(ctx context.Context) (int, error) { return a.plane.Probe(ctx, h.VTEP, smallProbe) })
	if text := a.closed(ctx, h, used, tunnel); text != "" {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: text,
			Cure: fmt.Sprintf("let UDP port %d through the firewalls of both hosts and between them, and see that both agents run with the same --vxlan-port",
				a.cfg.VXLANPort)}
	}
	state, text, cure := a.checkPeerMTU(ctx, h, tunnel == nil)
	switch {
	case tunnel == nil:
		text = "a frame came back through the tunnel; " + text
	case errors.Is(tunnel, reconcile.ErrNoTunnel):
		text += "; the tunnel is not probed, as " + reconcile.ErrNoTunnel.Error()
	}
	return adminapi.Check{Name: name, State: state, Text: text, Cure: cure}
}

// closed says why nothing comes through the tunnel's port; empty if something does, or nothing speaks against it.
func (a *agent) closed(ctx context.Context, h store.Host, used bool, tunnel error) string {
	if tunnel == nil {
		return ""
	}
	port := netip.AddrPortFrom(h.VTEP, a.cfg.VXLANPort)
	_, refused := within(ctx, refusalAnswer, func(ctx context.Context) (int, error) { return 0, probe.Refused(ctx, port) })
	switch {
	case used && errors.Is(refused, syscall.ECONNREFUSED):
		return fmt.Sprintf("UDP port %d of %s is refused: no tunnel ends there", port.Port(), h.VTEP)
	case errors.Is(tunnel, reconcile.ErrNoAnswer):
		return fmt.Sprintf("UDP port %d of %s gives no answer: frames sent into the tunnel do not come back", port.Port(), h.VTEP)
	}
	return ""
}

// checkPeerMTU looks for the largest packet that gets to a host whole. Where ICMP is dropped, and tunnel says that the tunnel works, the
// largest packet of a container shows it: it needs the whole of the underlay's.
func (a *agent) checkPeerMTU(ctx context.Context, h store.Host, tunnel bool) (state, text, cure string) {
	echo := func(size int) error {
		_, err := within(ctx, probeAnswer, func(ctx context.Context) (int, error) { return 0, probe.Echo(ctx, h.VTEP, size) })
		return err
	}
	mtu := a.where().MTU
	if err := echo(mtu); err == nil {
		return adminapi.CheckOK, fmt.Sprintf("%s gets whole packets of %d bytes", h.VTEP, mtu), ""
	}
	small := echo(smallProbe)
	if small == nil {
		return adminapi.CheckBad, fmt.Sprintf("packets of %d bytes, this host's MTU, do not reach %s whole", mtu, h.VTEP),
			fmt.Sprintf("make the MTU between the hosts equal, or lower it here with 'ip link set %s mtu BYTES' and restart the agent", a.where().Dev)
	}
	if !tunnel {
		return adminapi.CheckWarn, fmt.Sprintf("%s answers no ICMP echo: %v", h.VTEP, small),
			"see that the host runs, and that nothing between drops ICMP; then the MTU can be checked too"
	}
	size, err := within(ctx, tunnelAnswer, func(ctx context.Context) (int, error) { return a.plane.Probe(ctx, h.VTEP, 0) })
	if err != nil {
		return adminapi.CheckBad, fmt.Sprintf("small packets reach %s through the tunnel, containers' packets of %d bytes do not", h.VTEP, size),
			fmt.Sprintf("make the MTU between the hosts equal, or lower it here with 'ip link set %s mtu BYTES' and restart the agent", a.where().Dev)
	}
	return adminapi.CheckOK, fmt.Sprintf("%s drops ICMP, but gets containers' packets of %d bytes", h.VTEP, size), ""
}

// within gives f so long.
func within(ctx context.Context, limit time.Duration, f func(context.Context) (int, error)) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}
