package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
)

// Keys and values of external_ids and aliases by which what is ours is found again.
const (
	idKind     = ovsctl.MarkKey // endpoint, tunnel or vxlan
	idEndpoint = ovsctl.MarkKey + "-endpoint"
	idNetwork  = ovsctl.MarkKey + "-network"

	kindEndpoint = "endpoint"
	kindTunnel   = "tunnel"
	kindVXLAN    = "vxlan"

	// tunnelPort is the name of the flow-based VXLAN port; there is one a bridge.
	tunnelPort = "socketplane-vx"
	// devicePrefix begins the names of kernel VXLAN devices.
	devicePrefix = "spx"
)

func endpointAlias(id string) string { return hostlink.OwnerPrefix + kindEndpoint + ":" + id }
func deviceAlias(id string) string   { return hostlink.OwnerPrefix + kindVXLAN + ":" + id }

// network is one network: what is wanted of it, which Plane.mu guards, and what of it is there, which belongs to the turn.
type network struct {
	*state
	refusals

	device     device
	entered    bool              // the device has the forwarding entries, but for what is in edits
	ports      map[string]uint32 // of endpoints: OpenFlow numbers by the names of the host ends, as the database has them
	devicePort string            // the name of the device's port in the database
}

func newNetwork(id string) *network {
	return &network{state: newState(id), refusals: newRefusals(), ports: map[string]uint32{}}
}

// all are all networks; there may be others once mu is free.
func (p *Plane) all() []*network {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.networks))
}

// find is a network by its ID, nil if nothing is wanted or there of it.
func (p *Plane) find(id string) *network {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.networks[id]
}

// apply makes one network true: device, flows, forwarding entries, ports, links. What is wrong
// with the tunnel does not keep endpoints of this host apart.
func (p *Plane) apply(ctx context.Context, id string) error {
	return p.applyWith(ctx, id, func() error { return nil })
}

// applyWith is apply whose ports wait for links, which it calls for in any case. Meanwhile the switch takes up the
// flows: a port that is there before its flows forwards nothing, as does a flow before its port.
func (p *Plane) applyWith(ctx context.Context, id string, links func() error) error {
	if p.cookie == 0 {
		return errors.Join(fmt.Errorf("%w: the flows of the switch are about to be compared: try again in a second", ErrNotReady), links())
	}
	n := p.find(id)
	if n == nil {
		return links()
	}
	tunnel := p.ensureDevice(ctx, n)
	flows := make(chan error, 1)
	go func() { flows <- p.syncFlows(ctx, n) }()
	err := links()
	if err == nil {
		tunnel = errors.Join(tunnel, p.syncFDB(ctx, n))
		err = p.syncPorts(ctx, n)
	}
	told := <-flows
	if errors.Is(told, errFlood) {
		p.nudge() // Status tells it; it keeps no container from joining
		told = nil
	}
	if err = errors.Join(told, err); err != nil {
		return errors.Join(tunnel, err)
	}
	if err := errors.Join(tunnel, p.drop(ctx, n)); err != nil {
		return err
	}
	p.finished(n)
	return nil
}

// finished forgets a network of which nothing is there any more.
func (p *Plane) finished(n *network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.gone {
		delete(p.networks, n.id)
	}
}

// veth is the pair of links of an endpoint.
func (p *Plane) veth(mtu int, e dataplane.Endpoint) hostlink.Veth {
	return hostlink.Veth{
		Host: e.HostLink, Peer: e.PeerLink, PeerMAC: e.MAC, MTU: cmp.Or(e.MTU, mtu),
		Alias: endpointAlias(e.ID), TXChecksum: p.tso,
	}
}
