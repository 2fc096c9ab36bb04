package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

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

// network is what is wanted for one network, and what of it is there.
type network struct {
	want     dataplane.Network
	revision uint64 // of want
	gone     bool   // nothing is wanted: want has the identity only

	done    uint64 // the revision that is true
	device  device
	flows   flowParts
	basis   basis // from what flows were computed
	fdb     []hostlink.FDBEntry
	entered bool // fdb is in the device
	ports   []ovsctl.Port
	links   map[string]bool // of endpoints
}

// take takes over what is wanted now.
func (r *Reconciler) take(id string) *network {
	r.mu.Lock()
	want, ok := r.desired[id]
	r.mu.Unlock()
	n := r.networks[id]
	switch {
	case n == nil && !ok:
		return nil
	case n == nil:
		n = &network{}
		r.networks[id] = n
	}
	if n.gone = !ok; n.gone {
		want = desired{Network: dataplane.Network{ID: id, VNI: n.want.VNI}}
	}
	// Peers that no tunnel reaches are left out. A record of another host that has our address is one of ours, from before this host
	// lost its identity: frames would come back in. The kernel refuses forwarding entries of the other IP family, and one such host
	// would keep containers of all others from joining.
	want.Remote = slices.DeleteFunc(slices.Clone(want.Remote), func(p dataplane.Peer) bool {
		return !dataplane.TunnelBetween(r.underlay.Addr, p.VTEP)
	})
	n.want, n.revision = want.Network, want.revision
	return n
}

// takeAll takes over all that is wanted now.
func (r *Reconciler) takeAll() {
	r.mu.Lock()
	ids := slices.Collect(maps.Keys(r.desired))
	r.mu.Unlock()
	for _, id := range slices.Concat(ids, slices.Collect(maps.Keys(r.networks))) {
		r.take(id)
	}
}

// attached says whether the network has somebody here to send or receive.
func (n *network) attached() bool {
	return slices.ContainsFunc(n.want.Local, func(e dataplane.Endpoint) bool { return e.Attached })
}

// apply makes one network true: device, flows, forwarding entries, ports, links. What is wrong
// with the tunnel does not keep endpoints of this host apart.
func (r *Reconciler) apply(ctx context.Context, id string) error {
	return r.applyWith(ctx, id, func() error { return nil })
}

// applyWith is apply whose ports wait for links, which it calls for in any case. Meanwhile the switch takes up the
// flows: a port that is there before its flows forwards nothing, as does a flow before its port.
func (r *Reconciler) applyWith(ctx context.Context, id string, links func() error) error {
	if r.cookie == 0 {
		return errors.Join(fmt.Errorf("%w: the flows of the switch are about to be compared: try again in a second", ErrNotReady), links())
	}
	n := r.take(id)
	if n == nil {
		return links()
	}
	tunnel := r.ensureDevice(ctx, n)
	flows := make(chan error, 1)
	go func() { flows <- r.syncFlows(ctx, n) }()
	err := links()
	if err == nil {
		tunnel = errors.Join(tunnel, r.syncFDB(ctx, n))
		err = r.syncPorts(ctx, n)
	}
	if err = errors.Join(<-flows, err); err != nil {
		return errors.Join(tunnel, err)
	}
	if err := errors.Join(tunnel, r.drop(ctx, n)); err != nil {
		return err
	}
	r.finished(n)
	return nil
}

// finished notes that the network is as wanted.
func (r *Reconciler) finished(n *network) {
	if n.done = n.revision; n.gone {
		delete(r.networks, n.want.ID)
	}
}

// syncPorts makes the ports true if those of the network are to change.
func (r *Reconciler) syncPorts(ctx context.Context, n *network) error {
	before := n.ports
	n.ports = r.portsOf(n)
	if slices.EqualFunc(before, n.ports, func(a, b ovsctl.Port) bool { return a.Name == b.Name && a.OFPort == b.OFPort }) {
		return nil
	}
	_, err := r.sw.SyncPorts(ctx, r.ports())
	if err != nil {
		n.ports = nil
	}
	return err
}

// portsOf are the ports that the bridge should have for a network. An endpoint without a link has
// none: its container is gone, or has yet to be attached.
func (r *Reconciler) portsOf(n *network) []ovsctl.Port {
	var ports []ovsctl.Port
	if r.needsDevice(n) && n.tunnelPort() != 0 {
		ports = append(ports, ovsctl.Port{
			Name: n.device.name, OFPort: n.device.port,
			ExternalIDs: map[string]string{idKind: kindVXLAN, idNetwork: n.want.ID},
		})
	}
	for _, e := range n.want.Local {
		if _, ok := r.owned[e.HostLink]; ok && e.Attached {
			ports = append(ports, ovsctl.Port{
				Name: e.HostLink, OFPort: e.Port,
				ExternalIDs: map[string]string{idKind: kindEndpoint, idEndpoint: e.ID, idNetwork: n.want.ID},
			})
		}
	}
	return ports
}

// ports are all ports that the bridge should have, as far as networks were taken over.
func (r *Reconciler) ports() []ovsctl.Port {
	var ports []ovsctl.Port
	if r.tunnel == dataplane.TunnelOVS {
		ports = append(ports, ovsctl.Port{
			Name: tunnelPort, OFPort: dataplane.PortTunnel, Type: "vxlan",
			Options: map[string]string{
				"remote_ip": "flow", "key": "flow", "local_ip": r.underlay.Addr.String(),
				"dst_port": strconv.Itoa(int(r.opts.VXLANPort)),
			},
			ExternalIDs: map[string]string{idKind: kindTunnel},
		})
	}
	for _, id := range slices.Sorted(maps.Keys(r.networks)) {
		ports = append(ports, r.networks[id].ports...)
	}
	return ports
}

// drop removes the device and the links that are not wanted any more. Their ports are gone by now.
func (r *Reconciler) drop(ctx context.Context, n *network) error {
	errs := []error{r.dropDevice(ctx, n)}
	keep := make(map[string]bool, len(n.want.Local))
	for _, e := range n.want.Local {
		keep[e.HostLink] = true
	}
	for name := range n.links {
		if !keep[name] {
			errs = append(errs, r.links.DeleteLink(ctx, name))
		}
	}
	n.links = keep // what could not be removed, collectLinks finds
	return errors.Join(errs...)
}

// veth is the pair of links of an endpoint.
func (r *Reconciler) veth(n dataplane.Network, e dataplane.Endpoint) hostlink.Veth {
	return hostlink.Veth{
		Host: e.HostLink, Peer: e.PeerLink, PeerMAC: e.MAC, MTU: cmp.Or(e.MTU, n.MTU),
		Alias: endpointAlias(e.ID), TXChecksum: r.tso,
	}
}
