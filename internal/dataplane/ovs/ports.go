package ovs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl"
)

// syncPorts makes the ports of a network true, as far as they may have changed.
func (p *Plane) syncPorts(ctx context.Context, n *network) error {
	p.mu.Lock()
	names := n.edits.links
	n.edits.links = map[string]bool{}
	var ensure []ovsctl.Port
	var remove []string
	for name := range names {
		port, wanted := p.portOf(n, n.links[name])
		if had, there := n.ports[name]; !wanted && there {
			remove = append(remove, name)
		} else if wanted && (!there || had != port.OFPort) {
			ensure = append(ensure, port)
		}
	}
	device, has := p.portOfDevice(n)
	p.mu.Unlock()
	if n.devicePort != "" && n.devicePort != device.Name {
		remove = append(remove, n.devicePort)
	}
	if has && n.devicePort != device.Name {
		ensure = append(ensure, device)
	}
	err := p.changePorts(ctx, n, ensure, remove)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		maps.Copy(n.edits.links, names)
	} else {
		p.stale(n, names)
	}
	return err
}

// changePorts removes ports, and then adds or mends others: a number may pass from one to another. All that are added come with one transaction, as ovs-vswitchd
// looks at all ports that it has after each: a network's first endpoint comes with its device.
func (p *Plane) changePorts(ctx context.Context, n *network, ensure []ovsctl.Port, remove []string) error {
	if len(remove) > 0 {
		if err := p.sw.RemovePorts(ctx, remove...); err != nil {
			return err
		}
	}
	for _, name := range remove {
		p.left[name] = true
		delete(n.ports, name)
		if name == n.devicePort {
			n.devicePort = ""
		}
	}
	if len(ensure) > 1 {
		if _, err := p.sw.EnsurePorts(ctx, ensure...); err == nil {
			for _, port := range ensure {
				p.note(n, port)
			}
			return nil
		} // else one by one: one that can't be had keeps no other away
	}
	var errs []error
	for _, port := range ensure {
		if err := p.sw.EnsurePort(ctx, port); err != nil {
			errs = append(errs, err)
			continue
		}
		p.note(n, port)
	}
	return errors.Join(errs...)
}

// note notes that the database has a port.
func (p *Plane) note(n *network, port ovsctl.Port) {
	delete(p.left, port.Name)
	if port.ExternalIDs[idKind] == kindVXLAN {
		n.devicePort = port.Name
	} else {
		n.ports[port.Name] = port.OFPort
	}
}

// stale notes the links of these names that are not wanted any more. Their ports are gone. Called with mu held.
func (p *Plane) stale(n *network, names map[string]bool) {
	for name := range names {
		if n.gone || n.links[name] == nil {
			n.dropped = append(n.dropped, name)
		}
	}
}

// portOf is the port that the bridge should have for an endpoint. One without a link has
// none: its container is gone, or has yet to be attached. Called with mu held.
func (p *Plane) portOf(n *network, s *station) (port ovsctl.Port, wanted bool) {
	if n.gone || s == nil || !s.local.Attached {
		return port, false
	}
	if _, there := p.owned[s.local.HostLink]; !there {
		return port, false
	}
	return ovsctl.Port{
		Name: s.local.HostLink, OFPort: s.local.Port,
		ExternalIDs: map[string]string{idKind: kindEndpoint, idEndpoint: s.id, idNetwork: n.id},
	}, true
}

// portOfDevice is the port of the network's VXLAN device. Called with mu held.
func (p *Plane) portOfDevice(n *network) (port ovsctl.Port, wanted bool) {
	if !p.needsDevice(n) || n.tunnelPort() == 0 {
		return port, false
	}
	return ovsctl.Port{
		Name: n.device.name, OFPort: n.device.port,
		ExternalIDs: map[string]string{idKind: kindVXLAN, idNetwork: n.id},
	}, true
}

// syncAllPorts makes all ports true. That a name is another's is trouble of one endpoint.
func (p *Plane) syncAllPorts(ctx context.Context) (trouble, err error) {
	networks := p.all()
	var want []ovsctl.Port
	if p.tunnel == dataplane.TunnelOVS {
		want = append(want, ovsctl.Port{
			Name: tunnelPort, OFPort: dataplane.PortTunnel, Type: "vxlan",
			Options: map[string]string{
				"remote_ip": "flow", "key": "flow", "local_ip": p.underlay.Addr.String(),
				"dst_port": strconv.Itoa(int(p.opts.VXLANPort)),
			},
			ExternalIDs: map[string]string{idKind: kindTunnel},
		})
	}
	of := map[*network][]ovsctl.Port{}
	stale := map[*network]map[string]bool{}
	p.mu.Lock()
	for _, n := range networks {
		stale[n], n.edits.links = n.edits.links, map[string]bool{}
		if port, has := p.portOfDevice(n); has {
			of[n] = append(of[n], port)
		}
		for _, s := range n.local {
			if port, wanted := p.portOf(n, s); wanted {
				of[n] = append(of[n], port)
			}
		}
		want = slices.Concat(want, of[n])
	}
	p.mu.Unlock()
	changes, err := p.sw.SyncPorts(ctx, want)
	foreign := errors.Is(err, ovsctl.ErrForeign)
	p.mu.Lock()
	for _, n := range networks {
		if clear(n.ports); err != nil && !foreign {
			maps.Copy(n.edits.links, stale[n])
			continue
		}
		n.devicePort = ""
		for _, port := range of[n] {
			p.note(n, port)
		}
		p.stale(n, stale[n])
	}
	p.mu.Unlock()
	if err != nil && !foreign {
		return nil, err
	}
	if changes != (ovsctl.Changes{}) {
		p.setStatus(func(s *Status) { s.Drift.Ports++ })
		p.log.Info("ports mended", "added", changes.Added, "removed", changes.Removed, "mended", changes.Mended)
	}
	return err, nil
}

// drop removes the device and the links that are not wanted any more. Their ports are gone by now.
func (p *Plane) drop(ctx context.Context, n *network) error {
	errs := []error{p.dropDevice(ctx, n)}
	p.mu.Lock()
	names := slices.DeleteFunc(n.dropped, func(name string) bool { return !n.gone && n.links[name] != nil })
	n.dropped = nil
	p.mu.Unlock()
	for _, name := range names { // what could not be removed, collectLinks finds
		delete(p.owned, name)
		p.left[name] = true
		errs = append(errs, p.links.DeleteLink(ctx, name))
	}
	return errors.Join(errs...)
}
