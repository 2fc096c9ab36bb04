package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// Keys and values of external_ids and aliases by which what is ours is found again.
const (
	idKind     = "socketplane" // endpoint, tunnel or vxlan
	idEndpoint = "socketplane-endpoint"
	idNetwork  = "socketplane-network"

	kindEndpoint = "endpoint"
	kindTunnel   = "tunnel"
	kindVXLAN    = "vxlan"

	// tunnelPort is the name of the flow-based VXLAN port; there is one a bridge.
	tunnelPort = "socketplane-vx"
	// devicePrefix begins the names of kernel VXLAN devices.
	devicePrefix = "spx"
)

func endpointAlias(id string) string     { return hostlink.OwnerPrefix + kindEndpoint + ":" + id }
func deviceAlias(id string) string       { return hostlink.OwnerPrefix + kindVXLAN + ":" + id }
func attached(e dataplane.Endpoint) bool { return e.Attached }

// apply makes one network true: device, flows, forwarding entries, ports.
func (r *Reconciler) apply(ctx context.Context, n *network) error {
	if err := r.ensureDevice(ctx, n); err != nil {
		return err
	}
	change := r.diff(n.installed, r.flows(n))
	if err := r.change(ctx, change); err != nil {
		return err
	}
	n.installed = r.flows(n)
	r.countFlows()
	if err := r.syncFDB(ctx, n); err != nil {
		return err
	}
	_, err := r.sw.SyncPorts(ctx, r.ports())
	if err != nil {
		return err
	}
	return r.dropDevice(ctx, n)
}

// flows are the wanted flows of a network, by key.
func (r *Reconciler) flows(n *network) map[string]openflow.Flow {
	want := n.want
	want.Local = slices.DeleteFunc(slices.Clone(want.Local), func(e dataplane.Endpoint) bool { return !e.Attached })
	if len(want.Local) == 0 {
		return map[string]openflow.Flow{} // nobody here to send or receive
	}
	return r.keyed(pipeline.Network(r.pipeline(), want, n.device.port))
}

// pipeline is what all networks of this host have in common. The kernel's datapath can't set what
// a whole answer to a neighbour solicitation needs (docs/design/0002-pipeline.md).
func (r *Reconciler) pipeline() pipeline.Config {
	return pipeline.Config{Tunnel: r.tunnel, NDExtensions: r.datapath == ovsctl.DatapathNetdev}
}

func (r *Reconciler) keyed(flows []openflow.Flow) map[string]openflow.Flow {
	byKey := make(map[string]openflow.Flow, len(flows))
	for _, f := range flows {
		f.Cookie = r.cookie
		byKey[f.Key()] = f
	}
	return byKey
}

// diff is what leads from one set of flows to another.
func (r *Reconciler) diff(have, want map[string]openflow.Flow) openflow.Change {
	var c openflow.Change
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if f, ok := have[key]; !ok || !f.Equal(want[key]) {
			c.Add = append(c.Add, want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if _, ok := want[key]; !ok {
			c.Delete = append(c.Delete, have[key])
		}
	}
	return c
}

func (r *Reconciler) change(ctx context.Context, c openflow.Change) error {
	if len(c.Add) == 0 && len(c.Delete) == 0 {
		return nil
	}
	if r.conn == nil {
		return ErrNotReady
	}
	return r.conn.Apply(ctx, c)
}

// ports are all ports that the bridge should have.
func (r *Reconciler) ports() []ovsctl.Port {
	var ports []ovsctl.Port
	if r.tunnel == dataplane.TunnelOVS {
		ports = append(ports, ovsctl.Port{
			Name: tunnelPort, OFPort: dataplane.PortTunnel, Type: "vxlan",
			Options: map[string]string{
				"remote_ip": "flow", "key": "flow", "local_ip": r.opts.Underlay.Addr.String(),
				"dst_port": strconv.Itoa(int(r.opts.VXLANPort)),
			},
			ExternalIDs: map[string]string{idKind: kindTunnel},
		})
	}
	for _, id := range slices.Sorted(maps.Keys(r.networks)) {
		n := r.networks[id]
		if n.device.name != "" && n.needsDevice(r.tunnel) {
			ports = append(ports, ovsctl.Port{
				Name: n.device.name, OFPort: n.device.port,
				ExternalIDs: map[string]string{idKind: kindVXLAN, idNetwork: id},
			})
		}
		for _, e := range n.want.Local {
			if e.Attached {
				ports = append(ports, ovsctl.Port{
					Name: e.HostLink, OFPort: e.Port,
					ExternalIDs: map[string]string{idKind: kindEndpoint, idEndpoint: e.ID, idNetwork: id},
				})
			}
		}
	}
	return ports
}

// dropLinks removes the links of endpoints that are not wanted any more. Their
// ports are gone by now.
func (r *Reconciler) dropLinks(ctx context.Context, old, want dataplane.Network) error {
	keep := map[string]bool{}
	for _, e := range want.Local {
		keep[e.HostLink] = true
	}
	var errs []error
	for _, e := range old.Local {
		if !keep[e.HostLink] {
			errs = append(errs, r.links.DeleteLink(ctx, e.HostLink))
		}
	}
	return errors.Join(errs...)
}

func (r *Reconciler) countFlows() {
	count := len(r.base)
	for _, n := range r.networks {
		count += len(n.installed)
	}
	r.setStatus(func(s *Status) { s.Flows = count })
}
