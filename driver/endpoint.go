package driver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// Prefixes of interface names: the end that stays on the host, and the container's.
const (
	hostLinkPrefix = "sph"
	peerLinkPrefix = "spc"
)

// CreateEndpoint records an endpoint. Where Docker chose the address it is
// claimed in the cluster, and a duplicate is refused. Only fields that came
// empty are answered.
func (d *Driver) CreateEndpoint(ctx context.Context, r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	if err := d.dp.Ready(); err != nil {
		return nil, err
	}
	n, err := d.bound(ctx, r.NetworkID)
	if err != nil {
		return nil, err
	}
	defer n.lock.Release()
	if err := n.whole(); err != nil {
		return nil, err
	}
	if e, ok := n.endpoints[r.EndpointID]; ok && !e.Deleting {
		return e.answer(), nil // a repetition
	}
	d.finishEndpoints(ctx, n)
	if _, ok := n.endpoints[r.EndpointID]; ok {
		return nil, fmt.Errorf("%w: endpoint %.12s is still being removed: try again", ErrBadRequest, r.EndpointID)
	}
	e, err := d.newEndpoint(ctx, n, r)
	if err != nil {
		return nil, err
	}
	n.note(func() { n.add(e) })
	if err = d.reserve(ctx, n, e); err == nil {
		n.note(func() { n.mark(e, false) })
		err = d.put(ctx, e.key(), e)
	}
	if err != nil {
		n.note(func() { n.mark(e, true) })
		ctx, cancel := undoing(ctx)
		defer cancel()
		return nil, errors.Join(err, d.forget(ctx, n, e))
	}
	d.tellView(n, e)
	d.follow(n) // so that the peers are known when the container joins
	return e.answer(), nil
}

func (e *endpoint) answer() *network.CreateEndpointResponse {
	answer := &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}
	if e.GaveMAC {
		answer.Interface.MacAddress = e.MAC.String()
	}
	return answer
}

// newEndpoint checks the request and makes the endpoint's record.
func (d *Driver) newEndpoint(ctx context.Context, n *segment, r *network.CreateEndpointRequest) (*endpoint, error) {
	e := &endpoint{Schema: store.Schema, ID: r.EndpointID, DockerID: r.NetworkID, Created: time.Now().UTC()}
	if r.Interface == nil {
		return nil, fmt.Errorf("%w: an endpoint needs an interface", ErrBadRequest)
	}
	for _, text := range []string{r.Interface.Address, r.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is not an address with a prefix length", ErrBadRequest, text)
		}
		if _, ok := n.poolOf(p.Addr()); !ok {
			return nil, fmt.Errorf("%w: address %s is in none of the network's subnets %v", ErrBadRequest, p.Addr(), n.rec.Pools)
		}
		e.Addrs = append(e.Addrs, p)
	}
	if len(e.Addrs) == 0 {
		return nil, fmt.Errorf("%w: the endpoint has no address: use an IPAM driver that gives one", ErrBadRequest)
	}
	if err := e.setMAC(r.Interface.MacAddress); err != nil {
		return nil, err
	}
	asked, err := d.endpointOptions(r)
	if err != nil {
		return nil, err
	}
	e.IfName = asked.IfName
	d.endForgotten(ctx, n, e)
	if holder := d.macHolder(n, e); holder != "" {
		return nil, errMACTaken(e, holder)
	}
	if e.Port, err = d.takePort(); err != nil {
		return nil, err
	}
	// The nonce keeps names from being reused when Docker repeats an id.
	nonce := store.NewNonce()
	e.HostLink = dataplane.LinkName(hostLinkPrefix, e.ID, nonce)
	e.PeerLink = dataplane.LinkName(peerLinkPrefix, e.ID, nonce)
	return e, nil
}

// endForgotten removes endpoints whose address Docker gives to a new one. Where Docker manages the addresses, one is of one endpoint at a time; but at
// its boot after a crash it removes endpoints without telling a driver that it has not loaded yet (libnetwork's cleanupLocalEndpoints), and containers
// could not start again. One whose link is there is left, as its container may run: Docker has given addresses out twice (moby#33795).
func (d *Driver) endForgotten(ctx context.Context, n *segment, of *endpoint) {
	if n.rec.OwnIPAM || d.hasLink == nil {
		return
	}
	var forgotten []*endpoint
	for _, a := range of.Addrs {
		forgotten = append(forgotten, n.index.addrs[a]...)
	}
	for _, e := range forgotten {
		if e.ID == of.ID || n.endpoints[e.ID] != e || d.hasLink(ctx, e.HostLink) {
			continue // the second of these: it was removed by another of its addresses
		}
		d.log.Info("removing an endpoint whose address docker gives to another one", "network", n.rec.title(), "endpoint", e.ID, "addrs", e.Addrs)
		if err := d.removeEndpoint(ctx, n, e); err != nil {
			d.log.Warn("endpoint is not wholly removed yet", "network", n.rec.title(), "endpoint", e.ID, "err", err)
		}
	}
}

func (e *endpoint) setMAC(text string) error {
	if text == "" {
		_, _ = rand.Read(e.MAC[:])       // never fails
		e.MAC[0] = e.MAC[0]&^0x01 | 0x02 // unicast, locally administered
		e.GaveMAC = true
		return nil
	}
	hw, err := net.ParseMAC(text)
	if err != nil || len(hw) != len(e.MAC) {
		return fmt.Errorf("%w: %q is not an Ethernet address", ErrBadRequest, text)
	}
	if hw[0]&1 != 0 || bytes.Equal(hw, make([]byte, len(hw))) {
		return fmt.Errorf("%w: %s is a group or empty address and can't be a container's", ErrBadRequest, text)
	}
	e.MAC = dataplane.MAC(hw)
	return nil
}

// poolOf returns the network's subnet in which addr lies.
func (n *segment) poolOf(addr netip.Addr) (netip.Prefix, bool) {
	i := slices.IndexFunc(n.rec.Pools, func(p netip.Prefix) bool { return p.Contains(addr) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return n.rec.Pools[i], true
}

// macHolder tells which other endpoint known here has the endpoint's MAC, if any. The network's lock is held.
func (d *Driver) macHolder(n *segment, of *endpoint) string {
	for _, e := range n.index.macs[of.MAC] {
		if e.ID != of.ID {
			return "by another container of this host"
		}
	}
	if host := d.view.HasMAC(n.rec.Network, of.MAC); host != "" {
		return "by a container of host " + d.view.HostName(host)
	}
	return ""
}

func errMACTaken(e *endpoint, holder string) error {
	return fmt.Errorf("%w: MAC address %s is in use on this network (%s): choose another --mac-address", store.ErrTaken, e.MAC, holder)
}

// takePort draws a port number that no endpoint of this host has. Numbers go round
// before they are used again: the switch forgets a port a moment after it was told to.
func (d *Driver) takePort() (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range dataplane.MaxPort {
		d.lastPort = d.lastPort%dataplane.MaxPort + 1
		if !d.ports[d.lastPort] {
			d.ports[d.lastPort] = true
			return d.lastPort, nil
		}
	}
	return 0, fmt.Errorf("this host has %d endpoints, the most that its bridge can have", dataplane.MaxPort)
}

func (d *Driver) freePort(port uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ports, port)
}

// reserve claims the endpoint's addresses where Docker chose them.
func (d *Driver) reserve(ctx context.Context, n *segment, e *endpoint) error {
	if n.rec.OwnIPAM {
		return nil
	}
	n.note(func() {
		for _, p := range e.Addrs {
			pool, _ := n.poolOf(p.Addr())
			e.Reserved = append(e.Reserved, netip.PrefixFrom(p.Addr(), pool.Bits()))
		}
		// First the intention: after a crash in between, Sync finds it and releases what was claimed.
		n.mark(e, true)
	})
	if err := d.put(ctx, e.key(), e); err != nil {
		return err
	}
	for _, p := range e.Reserved {
		if err := d.addrs.Reserve(ctx, p.Masked(), p.Addr(), e.MAC.String()); err != nil {
			return err
		}
	}
	return nil
}

// forget releases what was claimed for an endpoint that is not forwarded any more, and
// removes its record. Only then is its port free: this can be repeated.
func (d *Driver) forget(ctx context.Context, n *segment, e *endpoint) error {
	var errs []error
	for _, p := range e.Reserved {
		errs = append(errs, d.addrs.Release(ctx, p.Masked(), p.Addr(), e.MAC.String()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.drop(ctx, e.key()); err != nil {
		return err
	}
	d.freePort(e.Port)
	n.note(func() { n.drop(e) })
	return nil
}

// finishEndpoints removes what could not be removed before: it may have the address
// or MAC that is wanted anew. What still can't be is left to Sync.
func (d *Driver) finishEndpoints(ctx context.Context, n *segment) {
	for _, e := range n.index.deleting {
		if err := d.removeEndpoint(ctx, n, e); err != nil {
			d.log.Warn("endpoint is not wholly removed yet", "network", n.rec.title(), "endpoint", e.ID, "err", err)
		}
	}
}

// DeleteEndpoint removes an endpoint and its links. It succeeds when the intention
// is journalled: Docker never repeats it, so Sync finishes what can't be done now.
func (d *Driver) DeleteEndpoint(ctx context.Context, r *network.DeleteEndpointRequest) error {
	n, ok := d.find(r.NetworkID)
	if !ok {
		return nil
	}
	if err := n.take(ctx); err != nil {
		return err
	}
	defer n.lock.Release()
	e, ok := n.endpoints[r.EndpointID]
	if !ok {
		return nil
	}
	if err := d.removeEndpoint(ctx, n, e); err != nil {
		if !e.Deleting {
			return err // not even journalled
		}
		d.log.Warn("endpoint is not wholly removed yet", "network", n.rec.title(), "endpoint", e.ID, "err", err)
	}
	return nil
}

// removeEndpoint journals that the endpoint goes, and undoes everything of it. The
// network's lock is held. It can be repeated.
func (d *Driver) removeEndpoint(ctx context.Context, n *segment, e *endpoint) error {
	if !e.Deleting {
		gone := *e
		gone.Deleting, gone.Joined = true, false
		if err := d.put(ctx, e.key(), gone); err != nil {
			return err
		}
		n.set(e, gone)
	}
	d.view.DropEndpoint(n.rec.Network, e.ID)
	if err := d.change(ctx, n, dataplane.Change{LocalGone: []string{e.ID}}); err != nil { // its port, then its links
		return err
	}
	if err := d.forget(ctx, n, e); err != nil {
		return err
	}
	if len(n.endpoints) == 0 {
		return d.forgetPeers(ctx, n)
	}
	return nil
}

// EndpointInfo tells what `docker network inspect -v` shows of an endpoint.
func (d *Driver) EndpointInfo(ctx context.Context, r *network.InfoRequest) (*network.InfoResponse, error) {
	n, err := d.bound(ctx, r.NetworkID)
	if err != nil {
		return nil, err
	}
	defer n.lock.Release()
	e, ok := n.endpoints[r.EndpointID]
	if !ok {
		return nil, unknownEndpoint(r.EndpointID)
	}
	return &network.InfoResponse{Value: map[string]string{
		"mac": e.MAC.String(), "link": e.HostLink, "port": fmt.Sprint(e.Port), "vni": fmt.Sprint(n.rec.VNI),
	}}, nil
}

func unknownEndpoint(id string) error {
	return fmt.Errorf("%w endpoint %.12s: start the container again", ErrUnknown, id)
}
