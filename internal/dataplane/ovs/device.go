package ovs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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

// needsDevice says whether the network has somebody here who may send to other hosts. Called in a turn, with mu held.
func (p *Plane) needsDevice(n *network) bool {
	return p.tunnel == dataplane.TunnelKernel && !n.gone && n.attached > 0
}

// deviceWanted is needsDevice with the device as it should be.
func (p *Plane) deviceWanted(n *network) (hostlink.VXLAN, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vxlan(n), p.needsDevice(n)
}

// distrust has the device and its entries looked at when they are next ensured.
func (n *network) distrust() {
	n.device.made = hostlink.VXLAN{}
	n.entered = false
}

// ensureDevice finds, makes or mends the network's VXLAN device if it needs one.
func (p *Plane) ensureDevice(ctx context.Context, n *network) error {
	want, needed := p.deviceWanted(n)
	if !needed {
		return nil
	}
	if n.device.name == "" {
		if err := p.findDevice(ctx, n); err != nil {
			return err
		}
		want.Name = n.device.name
	}
	if n.device.made == want {
		return nil
	}
	n.distrust()
	err := p.links.EnsureVXLAN(ctx, want)
	if errors.Is(err, hostlink.ErrDiffers) {
		// Another underlay address or port than before. Two devices can't have one VNI, so the old
		// one goes now; the new one has another name, and its port goes with the next ports.
		p.log.Info("tunnel device is made anew", "network", n.id, "link", n.device.name, "reason", err)
		if err = p.links.DeleteLink(ctx, n.device.name); err != nil {
			return err
		}
		if n.device, err = p.newDevice(n); err != nil {
			return err
		}
		want.Name = n.device.name
		err = p.links.EnsureVXLAN(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("tunnel of network %s: %w", n.id, err)
	}
	n.device.made = want
	return nil
}

// vxlan is the network's device as it should be. Called in a turn, with mu held.
func (p *Plane) vxlan(n *network) hostlink.VXLAN {
	return hostlink.VXLAN{
		Name: n.device.name, VNI: n.vni, Local: p.underlay.Addr, Port: p.opts.VXLANPort,
		MTU: n.maxMTU(), Alias: deviceAlias(n.id), // packets larger than the underlay's MTU are fragmented by the kernel
	}
}

// findDevice takes over the device that a former agent made, or chooses a name and port.
func (p *Plane) findDevice(ctx context.Context, n *network) (err error) {
	var owned []string
	for name, l := range p.owned {
		if l.Alias == deviceAlias(n.id) {
			owned = append(owned, name)
		}
	}
	if len(owned) == 0 {
		n.device, err = p.newDevice(n)
		return err
	}
	for _, port := range p.sw.Ports() {
		known := port.ExternalIDs[idKind] == kindVXLAN && port.ExternalIDs[idNetwork] == n.id
		if known && slices.Contains(owned, port.Name) {
			n.device = device{name: port.Name, port: port.OFPort}
			return nil
		}
	}
	// Without its port a device has no number: it is in the way of a new one.
	for _, name := range owned {
		if err := p.links.DeleteLink(ctx, name); err != nil {
			return err
		}
	}
	n.device, err = p.newDevice(n)
	return err
}

// newDevice chooses a name that was never used and a free port number.
func (p *Plane) newDevice(n *network) (device, error) {
	nonce := strconv.FormatInt(time.Now().UnixNano(), 36)
	used := map[uint32]bool{}
	for _, port := range p.sw.Ports() {
		used[port.OFPort] = true
	}
	for _, other := range p.all() {
		used[other.device.port] = true
	}
	for port := uint32(dataplane.PortDeviceFirst); port <= dataplane.PortDeviceLast; port++ {
		if !used[port] {
			return device{name: dataplane.LinkName(devicePrefix, n.id, nonce), port: port}, nil
		}
	}
	return device{}, fmt.Errorf("this host forwards %d networks, the most that its bridge can have with kernel tunnels",
		dataplane.PortDeviceLast-dataplane.PortDeviceFirst+1)
}

// syncFDB makes the kernel know where each remote MAC is, and who gets floods: all of it for a device that was not trusted, else what changed.
func (p *Plane) syncFDB(ctx context.Context, n *network) error {
	p.mu.Lock()
	idle := !p.needsDevice(n) || n.tunnelPort() == 0 || n.entered && len(n.edits.entries)+len(n.edits.floods) == 0
	var all, set, gone []hostlink.FDBEntry
	if !idle {
		set, gone = n.edits.takeEntries()
	}
	whole := !n.entered
	if !idle && whole {
		all = n.entriesOf(p.underlay.Addr)
	}
	p.mu.Unlock()
	if idle {
		return nil
	}
	n.entered = false
	var err error
	if whole {
		_, _, err = p.links.SyncFDB(ctx, n.device.name, all)
	} else {
		err = p.links.ChangeFDB(ctx, n.device.name, set, gone)
	}
	if err != nil {
		return fmt.Errorf("tunnel of network %s: %w", n.id, err)
	}
	n.entered = true
	return nil
}

// takeEntries takes the changes of forwarding entries.
func (e *edits) takeEntries() (set, gone []hostlink.FDBEntry) {
	for mac, m := range e.entries {
		if m.now.IsValid() {
			set = append(set, hostlink.FDBEntry{MAC: mac, Dst: m.now})
		} else if m.was.IsValid() {
			gone = append(gone, hostlink.FDBEntry{MAC: mac, Dst: m.was})
		}
	}
	for vtep, there := range e.floods {
		if there {
			set = append(set, hostlink.FDBEntry{Dst: vtep})
		} else {
			gone = append(gone, hostlink.FDBEntry{Dst: vtep})
		}
	}
	// Not cleared: a map is as large as it once was, and so is the cost of going through it.
	e.entries, e.floods = map[dataplane.MAC]move{}, map[netip.Addr]bool{}
	return set, gone
}

// dropDevice removes a device that is not needed any more. Its port is gone by now.
func (p *Plane) dropDevice(ctx context.Context, n *network) error {
	if _, needed := p.deviceWanted(n); n.device.name == "" || needed {
		return nil
	}
	p.left[n.device.name] = true
	if err := p.links.DeleteLink(ctx, n.device.name); err != nil {
		return err
	}
	n.device, n.entered = device{}, false
	return nil
}
