package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// Join attaches an endpoint: its links, port and flows are there when it
// answers, and the other hosts are told at once. No gateway is answered, so that Docker
// adds docker_gwbridge, with outbound NAT and published ports as its users know them.
func (d *Driver) Join(ctx context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	if err := d.dp.Ready(); err != nil {
		return nil, err
	}
	d.awaitName(ctx, r.NetworkID)
	d.awaitPeers(ctx, r.NetworkID)
	n, err := d.bound(ctx, r.NetworkID)
	if err != nil {
		return nil, err
	}
	defer n.lock.Release()
	if err := n.whole(); err != nil {
		return nil, err
	}
	e, ok := n.endpoints[r.EndpointID]
	if !ok || e.Deleting {
		return nil, unknownEndpoint(r.EndpointID)
	}
	// The first container of a network on this host was created before the other hosts' were known.
	if holder := d.macHolder(n, e); holder != "" {
		return nil, errMACTaken(e, holder)
	}
	if err := d.change(ctx, n, dataplane.Change{}); err != nil { // what the container asks for at once
		d.log.Warn("peers are applied as soon as the data plane is back", "network", n.rec.title(), "err", err)
	}
	if err := d.attach(ctx, n, e); err != nil {
		return nil, fmt.Errorf("attach endpoint %.12s: %w", e.ID, err)
	}
	d.tellView(n, e)
	return &netapi.JoinResponse{
		InterfaceName: netapi.InterfaceName{SrcName: e.PeerLink, DstPrefix: cmp.Or(n.rec.IfPrefix, "eth"), DstName: e.IfName},
	}, nil
}

// attach journals that the endpoint has joined, while its links, port and flows are made: both are needed for an
// answer. After a crash in between, what was made without being journalled is removed.
func (d *Driver) attach(ctx context.Context, n *segment, e *endpoint) error {
	joined := *e
	joined.Joined, joined.MTU = true, d.mtu(n)
	journalled := make(chan error, 1)
	go func() { journalled <- d.put(ctx, joined.key(), joined) }()
	was := *e
	n.set(e, joined)
	err := d.attachLinks(ctx, n, e)
	if errors.Is(err, dataplane.ErrUnknownNetwork) { // its first endpoint
		n.set(e, was)
		err = d.apply(ctx, n)
		if n.set(e, joined); err == nil {
			err = d.attachLinks(ctx, n, e)
		}
	}
	unwritten := <-journalled
	if err == nil && unwritten == nil {
		return nil
	}
	// Docker calls DeleteEndpoint next, from 29 on also Leave.
	n.set(e, was)
	attached := err == nil
	ctx, cancel := undoing(ctx)
	defer cancel()
	err = errors.Join(err, unwritten, d.put(ctx, e.key(), was))
	if attached {
		err = errors.Join(err, d.change(ctx, n, dataplane.Change{Local: []dataplane.Endpoint{n.planeEndpoint(e)}}))
	}
	return err
}

func (d *Driver) attachLinks(ctx context.Context, n *segment, e *endpoint) error {
	return d.dp.Attach(ctx, dataplane.Change{Network: n.rec.Network, Local: []dataplane.Endpoint{n.planeEndpoint(e)}}, e.ID)
}

// Leave detaches an endpoint. Its links stay until DeleteEndpoint: libnetwork
// moves the container's end back between the two calls.
func (d *Driver) Leave(ctx context.Context, r *network.LeaveRequest) error {
	n, ok := d.find(r.NetworkID)
	if !ok {
		return nil
	}
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.lock.Release()
	e, ok := n.endpoints[r.EndpointID]
	if !ok || !e.Joined {
		return nil
	}
	left := *e
	left.Joined = false
	if err := d.put(ctx, e.key(), left); err != nil {
		return err
	}
	n.set(e, left)
	d.tellView(n, e)
	if err := d.change(ctx, n, dataplane.Change{Local: []dataplane.Endpoint{n.planeEndpoint(e)}}); err != nil {
		d.log.Warn("endpoint is detached as soon as the data plane is back", "endpoint", e.ID, "err", err)
	}
	return nil
}

// plane computes what this host should forward of a network, whose lock is held.
func (d *Driver) plane(n *segment) dataplane.Network {
	p := dataplane.Network{ID: n.rec.Network, VNI: n.rec.VNI, MTU: d.mtu(n)}
	for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
		if e := n.endpoints[id]; !e.Deleting {
			p.Local = append(p.Local, n.planeEndpoint(e))
		}
	}
	if n.rec.Cut != "" { // its links stay until Docker removes them
		for i := range p.Local {
			p.Local[i].Attached = false
		}
		return p
	}
	p.Remote = n.stream.Whole()
	return p
}
