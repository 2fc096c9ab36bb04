package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
)

// device is a network's kernel VXLAN device; an empty name means that there is none.
type device struct {
	name string
	port uint32
}

// needsDevice says whether the network has somebody here who may send to other hosts.
func (n *network) needsDevice(tunnel dataplane.TunnelKind) bool {
	return tunnel == dataplane.TunnelKernel && slices.ContainsFunc(n.want.Local, attached)
}

// ensureDevice finds, makes or mends the network's VXLAN device if it needs one.
func (r *Reconciler) ensureDevice(ctx context.Context, n *network) error {
	if !n.needsDevice(r.tunnel) {
		return nil
	}
	if n.device.name == "" {
		if err := r.findDevice(ctx, n); err != nil {
			return err
		}
	}
	err := r.links.EnsureVXLAN(ctx, r.vxlan(n))
	if errors.Is(err, hostlink.ErrDiffers) {
		// Another underlay address or port than before: a new device under a new name,
		// and the old one goes when its port is gone.
		old := n.device.name
		if n.device, err = r.newDevice(n); err != nil {
			return err
		}
		// Two devices can't have one VNI.
		if err = r.links.DeleteLink(ctx, old); err != nil {
			return err
		}
		err = r.links.EnsureVXLAN(ctx, r.vxlan(n))
	}
	return err
}

func (r *Reconciler) vxlan(n *network) hostlink.VXLAN {
	return hostlink.VXLAN{
		Name: n.device.name, VNI: n.want.VNI, Local: r.opts.Underlay.Addr, Port: r.opts.VXLANPort,
		MTU: n.want.MTU, Alias: deviceAlias(n.want.ID),
	}
}

// findDevice takes over the device that a former agent made, or chooses a name and port.
func (r *Reconciler) findDevice(ctx context.Context, n *network) error {
	owned, err := r.links.Owned(ctx)
	if err != nil {
		return err
	}
	links := map[string]bool{}
	for _, l := range owned {
		links[l.Name] = l.Alias == deviceAlias(n.want.ID)
	}
	for _, p := range r.sw.Ports() {
		if p.ExternalIDs[idKind] == kindVXLAN && p.ExternalIDs[idNetwork] == n.want.ID && links[p.Name] {
			n.device = device{name: p.Name, port: p.OFPort}
			return nil
		}
	}
	// Without its port a device has no number: it is in the way of a new one.
	for name, ours := range links {
		if ours {
			if err := r.links.DeleteLink(ctx, name); err != nil {
				return err
			}
		}
	}
	n.device, err = r.newDevice(n)
	return err
}

// newDevice chooses a name that was never used and a free port number.
func (r *Reconciler) newDevice(n *network) (device, error) {
	nonce := strconv.FormatInt(time.Now().UnixNano(), 36)
	used := map[uint32]bool{}
	for _, p := range r.sw.Ports() {
		used[p.OFPort] = true
	}
	for _, other := range r.networks {
		used[other.device.port] = true
	}
	for port := uint32(dataplane.PortDeviceFirst); port <= dataplane.PortDeviceLast; port++ {
		if !used[port] {
			return device{name: dataplane.LinkName(devicePrefix, n.want.ID, nonce), port: port}, nil
		}
	}
	return device{}, fmt.Errorf("this host forwards %d networks, the most that its bridge can have with kernel tunnels",
		dataplane.PortDeviceLast-dataplane.PortDeviceFirst+1)
}

// syncFDB makes the kernel know where each remote MAC is, and who gets floods.
func (r *Reconciler) syncFDB(ctx context.Context, n *network) error {
	if n.device.name == "" || !n.needsDevice(r.tunnel) {
		return nil
	}
	var want []hostlink.FDBEntry
	seen := map[dataplane.MAC]bool{}
	for _, e := range n.want.Local {
		seen[e.MAC] = true // while a container moves, its new place counts
	}
	for _, peer := range n.want.Remote {
		if len(peer.Endpoints) > 0 {
			want = append(want, hostlink.FDBEntry{Dst: peer.VTEP})
		}
		for _, e := range peer.Endpoints {
			if !seen[e.MAC] {
				seen[e.MAC] = true
				want = append(want, hostlink.FDBEntry{MAC: e.MAC, Dst: peer.VTEP})
			}
		}
	}
	_, _, err := r.links.SyncFDB(ctx, n.device.name, want)
	return err
}

// dropDevice removes a device that is not needed any more. Its port is gone by now.
func (r *Reconciler) dropDevice(ctx context.Context, n *network) error {
	if n.device.name == "" || n.needsDevice(r.tunnel) {
		return nil
	}
	if err := r.links.DeleteLink(ctx, n.device.name); err != nil {
		return err
	}
	n.device = device{}
	return nil
}
