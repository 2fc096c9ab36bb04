package ovs

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

// device is a network's kernel VXLAN device; an empty name means that none was chosen.
type device struct {
	name string
	port uint32
	made hostlink.VXLAN // as it was last made true
}

// tunnelPort is the port of the device, 0 as long as there is none.
func (n *network) tunnelPort() uint32 {
	if n.device.made.Name == "" {
		return 0
	}
	return n.device.port
}

// needsDevice says whether the network has somebody here who may send to other hosts.
func (r *Reconciler) needsDevice(n *network) bool {
	return r.tunnel == dataplane.TunnelKernel && n.attached()
}

// distrust has the device and its entries looked at when they are next ensured.
func (n *network) distrust() {
	n.device.made = hostlink.VXLAN{}
	n.entered = false
}

// ensureDevice finds, makes or mends the network's VXLAN device if it needs one.
func (r *Reconciler) ensureDevice(ctx context.Context, n *network) error {
	if !r.needsDevice(n) {
		return nil
	}
	if n.device.name == "" {
		if err := r.findDevice(ctx, n); err != nil {
			return err
		}
	}
	if n.device.made == r.vxlan(n) {
		return nil
	}
	n.distrust()
	err := r.links.EnsureVXLAN(ctx, r.vxlan(n))
	if errors.Is(err, hostlink.ErrDiffers) {
		// Another underlay address or port than before. Two devices can't have one VNI, so the old
		// one goes now; the new one has another name, and its port goes with the next ports.
		r.log.Info("tunnel device is made anew", "network", n.want.ID, "link", n.device.name, "reason", err)
		if err = r.links.DeleteLink(ctx, n.device.name); err != nil {
			return err
		}
		if n.device, err = r.newDevice(n); err != nil {
			return err
		}
		err = r.links.EnsureVXLAN(ctx, r.vxlan(n))
	}
	if err != nil {
		return fmt.Errorf("tunnel of network %s: %w", n.want.ID, err)
	}
	n.device.made = r.vxlan(n)
	return nil
}

func (r *Reconciler) vxlan(n *network) hostlink.VXLAN {
	// The largest packets of containers that had joined before must pass, too: the kernel fragments what the underlay can't carry.
	mtu := n.want.MTU
	for _, e := range n.want.Local {
		if e.Attached {
			mtu = max(mtu, e.MTU)
		}
	}
	return hostlink.VXLAN{
		Name: n.device.name, VNI: n.want.VNI, Local: r.underlay.Addr, Port: r.opts.VXLANPort,
		MTU: mtu, Alias: deviceAlias(n.want.ID),
	}
}

// findDevice takes over the device that a former agent made, or chooses a name and port.
func (r *Reconciler) findDevice(ctx context.Context, n *network) (err error) {
	var owned []string
	for name, l := range r.owned {
		if l.Alias == deviceAlias(n.want.ID) {
			owned = append(owned, name)
		}
	}
	if len(owned) == 0 {
		n.device, err = r.newDevice(n)
		return err
	}
	for _, p := range r.sw.Ports() {
		known := p.ExternalIDs[idKind] == kindVXLAN && p.ExternalIDs[idNetwork] == n.want.ID
		if known && slices.Contains(owned, p.Name) {
			n.device = device{name: p.Name, port: p.OFPort}
			return nil
		}
	}
	// Without its port a device has no number: it is in the way of a new one.
	for _, name := range owned {
		if err := r.links.DeleteLink(ctx, name); err != nil {
			return err
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
	if !r.needsDevice(n) || n.tunnelPort() == 0 {
		return nil
	}
	want := entries(n.want)
	if n.entered && slices.Equal(want, n.fdb) {
		return nil
	}
	n.entered = false
	added, removed, err := r.links.SyncFDB(ctx, n.device.name, want)
	r.log.Debug("forwarding entries", "link", n.device.name, "added", added, "removed", removed, "err", err)
	if err != nil {
		return fmt.Errorf("tunnel of network %s: %w", n.want.ID, err)
	}
	n.fdb, n.entered = want, true
	return nil
}

// entries are the forwarding entries of a network. As in the flows, who is here
// counts before who is elsewhere, and else the first: while a container moves, there are two records.
func entries(want dataplane.Network) []hostlink.FDBEntry {
	var out []hostlink.FDBEntry
	seen := map[dataplane.MAC]bool{}
	for _, e := range want.Local {
		if e.Attached {
			seen[e.MAC] = true
		}
	}
	for _, peer := range want.Remote {
		if len(peer.Endpoints) > 0 {
			out = append(out, hostlink.FDBEntry{Dst: peer.VTEP})
		}
		for _, e := range peer.Endpoints {
			if !seen[e.MAC] {
				seen[e.MAC] = true
				out = append(out, hostlink.FDBEntry{MAC: e.MAC, Dst: peer.VTEP})
			}
		}
	}
	return out
}

// dropDevice removes a device that is not needed any more. Its port is gone by now.
func (r *Reconciler) dropDevice(ctx context.Context, n *network) error {
	if n.device.name == "" || r.needsDevice(n) {
		return nil
	}
	if err := r.links.DeleteLink(ctx, n.device.name); err != nil {
		return err
	}
	n.device, n.entered = device{}, false
	return nil
}
