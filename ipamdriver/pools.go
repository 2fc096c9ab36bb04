package ipamdriver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// RequestPool makes this host a holder of the asked subnet, of the named network's
// subnet, or of one that it chooses. The pool's id is its CIDR, and its range if there is one.
func (d *Driver) RequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	asked, err := netopt.ParseIPAM(r.Options)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	pool, err := d.wanted(ctx, r, asked.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case d.ofSwarm(r.AddressSpace):
		if pool, err = d.swarmPool(ctx, pool, r.V6); err != nil {
			return nil, err
		}
		return &ipam.RequestPoolResponse{PoolID: swarmMark + pool.String(), Pool: pool.CIDR.String(), Data: map[string]string{}}, nil
	case pool.CIDR.IsValid():
		err = d.acquire(ctx, pool.CIDR)
	default:
		pool, err = d.choose(ctx, r.V6)
	}
	if err != nil {
		return nil, err
	}
	pool.Top = asked.Top
	return &ipam.RequestPoolResponse{PoolID: pool.String(), Pool: pool.CIDR.String(), Data: map[string]string{}}, nil
}

// wanted is the pool that the request names, or an empty one.
func (d *Driver) wanted(ctx context.Context, r *ipam.RequestPoolRequest, name string) (ipalloc.Pool, error) {
	var cidr, within netip.Prefix
	var err error
	if r.Pool != "" {
		if cidr, err = netip.ParsePrefix(r.Pool); err != nil {
			return ipalloc.Pool{}, fmt.Errorf("%w: subnet %q is not a CIDR such as 10.1.0.0/16", ErrBadRequest, r.Pool)
		}
	}
	if r.SubPool != "" {
		if within, err = netip.ParsePrefix(r.SubPool); err != nil {
			return ipalloc.Pool{}, fmt.Errorf("%w: range %q is not a CIDR such as 10.1.2.0/24", ErrBadRequest, r.SubPool)
		}
	}
	if name != "" && !cidr.IsValid() {
		n, err := d.cluster.NetworkNamed(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return ipalloc.Pool{}, err
		}
		if i := slices.IndexFunc(n.Pools, func(p netip.Prefix) bool { return p.Addr().Is6() == r.V6 }); i >= 0 {
			cidr = n.Pools[i]
		}
	}
	if !cidr.IsValid() {
		if within.IsValid() {
			return ipalloc.Pool{}, fmt.Errorf("%w: --ip-range needs a --subnet", ErrBadRequest)
		}
		return ipalloc.Pool{}, nil
	}
	if cidr.Addr().Is6() != r.V6 {
		return ipalloc.Pool{}, fmt.Errorf("%w: subnet %s was asked for as the other IP version", ErrBadRequest, cidr)
	}
	if err := ipalloc.Usable(cidr); err != nil {
		return ipalloc.Pool{}, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	p, err := ipalloc.New(cidr, within)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return p, nil
}

// acquire holds a certain pool.
func (d *Driver) acquire(ctx context.Context, cidr netip.Prefix) error {
	p, err := d.cluster.Pool(ctx, cidr)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if p.Network != "" && d.opts.SwarmSpace == "" { // Swarm's networks come again with each start of Docker
		own, err := d.cluster.Bound(ctx, p.Network)
		if err != nil {
			return err
		}
		held := false
		if own.DockerID != "" {
			if held, err = d.cluster.Holds(ctx, cidr); err != nil {
				return err
			}
		}
		if held {
			return fmt.Errorf("%w: this host has a network with subnet %s already, Docker network %.12s: use that one or choose another --subnet",
				store.ErrInUse, cidr, own.DockerID)
		}
	}
	return d.hold(ctx, cidr, d.cluster.AcquirePool)
}

// hold gets a pool from the cluster and journals it.
func (d *Driver) hold(ctx context.Context, cidr netip.Prefix, get func(context.Context, netip.Prefix) (store.Pool, error)) error {
	unlock, err := d.pools.lock(ctx, cidr)
	if err != nil {
		return err
	}
	defer unlock()
	had, err := d.held(ctx, cidr)
	if err != nil {
		return err
	}
	h := heldPool{Schema: store.Schema, CIDR: cidr}
	_, err = get(ctx, cidr)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if err == nil {
		if err = d.putPool(ctx, h); err == nil {
			return nil
		}
	}
	if had != nil && !had.Returning {
		return err // an earlier request has it
	}
	// Held or not, nobody knows of it: Sync gives it back.
	h.Returning = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnSoon)
	defer cancel()
	return errors.Join(err, d.putPool(ctx, h))
}

// held reads the journal's record of a pool; nil if there is none.
func (d *Driver) held(ctx context.Context, cidr netip.Prefix) (*heldPool, error) {
	e, err := d.local.Get(ctx, store.LocalPoolKey(cidr))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := store.Decode[heldPool](e)
	return &h, err
}

func (d *Driver) putPool(ctx context.Context, p heldPool) error {
	return d.local.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.LocalPoolKey(p.CIDR), Value: store.Encode(p)})
}

// choose takes the first subnet that overlaps no pool of the cluster and no
// connected route of any host.
func (d *Driver) choose(ctx context.Context, v6 bool) (ipalloc.Pool, error) {
	taken, err := d.takenSubnets(ctx)
	if err != nil {
		return ipalloc.Pool{}, err
	}
	if err := d.checkHalves(ctx, v6); err != nil {
		return ipalloc.Pool{}, err
	}
	for cidr := range d.free(taken, v6) {
		err := d.hold(ctx, cidr, d.cluster.MakePool)
		if errors.Is(err, store.ErrOverlap) {
			continue // somebody was faster
		}
		return ipalloc.Pool{CIDR: cidr, Range: cidr}, err
	}
	return ipalloc.Pool{}, d.errNoSubnet(taken.used, v6)
}

// errNoSubnet names the largest of the subnets that leave none to choose.
func (d *Driver) errNoSubnet(taken []netip.Prefix, v6 bool) error {
	largest := ""
	bits := 129
	for _, p := range taken {
		if p.Addr().Is6() == v6 && p.Bits() < bits {
			bits, largest = p.Bits(), fmt.Sprintf(" (the largest is %s)", p)
		}
	}
	return fmt.Errorf("%w: every subnet of the address pools overlaps a network of the cluster or of a host%s: "+
		"give --subnet, or the agents other --address-pools; 'socketplane host inspect' shows what a host uses", ErrExhausted, largest)
}

// halvesTried is how many subnets Docker may have declined before it is told why. It keeps each until it has one that it takes.
const halvesTried = 2

// zeroRoutesTaken is the API version of Docker Engine 27.0, from which on a route to 0.0.0.0 of any length counts as a default route: what
// overlaps it is taken.
const zeroRoutesTaken = "1.46"

// checkHalves ends Docker's search for a subnet that overlaps no route, where it would never find one: an engine before 27 declines each
// answer that overlaps 0.0.0.0/1 or 128.0.0.0/1 of scope link, as VPN clients set them, and asks again for ever; a later one does that
// for 128.0.0.0/1 alone.
func (d *Driver) checkHalves(ctx context.Context, v6 bool) error {
	if d.opts.HalfDefaults == nil || v6 {
		return nil
	}
	halves, err := d.opts.HalfDefaults(ctx)
	if api := d.engineAPI(); api != "" && !netopt.Older(api, zeroRoutesTaken) {
		halves = slices.DeleteFunc(slices.Clone(halves), func(p netip.Prefix) bool { return p.Addr().IsUnspecified() })
	}
	if err != nil || len(halves) == 0 {
		return err
	}
	pools, err := d.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	tried := 0
	for _, p := range pools {
		if p.Network != "" || !slices.ContainsFunc(halves, p.CIDR.Overlaps) {
			continue
		}
		held, err := d.cluster.Holds(ctx, p.CIDR)
		if err != nil {
			return err
		}
		if held {
			tried++
		}
	}
	if tried < halvesTried {
		return nil
	}
	return fmt.Errorf("%w: Docker declines every subnet that is chosen, as it overlaps this host's route %s (of a VPN client?): "+
		"give --subnet, or use 'socketplane network create NAME'", ErrExhausted, halves[0])
}

func (d *Driver) engineAPI() string {
	if d.opts.EngineAPI == nil {
		return ""
	}
	return d.opts.EngineAPI()
}

// occupied are the subnets that are not chosen.
type occupied struct {
	used []netip.Prefix // by networks and hosts: never
	// routed are those that hosts reach by a router or a VPN: chosen only when nothing else is free, as containers would reach them no more.
	routed []netip.Prefix
}

// free gives the subnets to choose from, the better ones first.
func (d *Driver) free(t occupied, v6 bool) func(func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		for _, hidden := range []bool{false, true} {
			for cidr := range d.candidates(v6) {
				if !slices.ContainsFunc(t.used, cidr.Overlaps) && slices.ContainsFunc(t.routed, cidr.Overlaps) == hidden && !yield(cidr) {
					return
				}
			}
		}
	}
}

func (d *Driver) takenSubnets(ctx context.Context) (t occupied, err error) {
	pools, err := d.cluster.Subnets(ctx)
	if err != nil {
		return t, err
	}
	t.used = slices.Clone(pools) // others share it
	hosts, err := d.cluster.Used(ctx)
	if err != nil {
		return t, err
	}
	for _, h := range hosts {
		t.used = append(t.used, h.Subnets...)
		t.routed = append(t.routed, h.Routed...)
	}
	if d.opts.Subnets != nil {
		own, err := d.opts.Subnets(ctx)
		if err != nil {
			return t, err
		}
		t.used = append(t.used, own...)
	}
	return t, nil
}

// candidates gives the subnets to choose from, in order.
func (d *Driver) candidates(v6 bool) func(func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		found := false
		for _, r := range d.opts.Pools {
			if r.Prefix.Addr().Is6() != v6 {
				continue
			}
			found = true
			for p := range ipalloc.Slices(r.Prefix, r.Bits) {
				if !yield(p) {
					return
				}
			}
		}
		if !found && v6 {
			yield(randomULA())
		}
	}
}

// randomULA draws a /64 of fd00::/8 (RFC 4193 3.1): 56 random bits, so that two never meet.
func randomULA() netip.Prefix {
	var b [16]byte
	_, _ = rand.Read(b[:8]) // never fails
	b[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// ReleasePool ends this host's hold on a pool. It succeeds when the intention is
// journalled: Docker never repeats it, so Sync finishes what the cluster could not take now.
func (d *Driver) ReleasePool(ctx context.Context, r *ipam.ReleasePoolRequest) error {
	if id, ok := strings.CutPrefix(r.PoolID, swarmMark); ok {
		return d.releaseSwarmPool(ctx, id)
	}
	pool, err := parsePoolID(r.PoolID)
	if err != nil {
		return err
	}
	unlock, err := d.pools.lock(ctx, pool.CIDR)
	if err != nil {
		return err
	}
	defer unlock()
	had, err := d.held(ctx, pool.CIDR)
	if err != nil || had == nil { // released already
		return err
	}
	held := heldPool{Schema: store.Schema, CIDR: pool.CIDR, Returning: true}
	if err := d.putPool(ctx, held); err != nil {
		return err
	}
	if err := d.returnPool(ctx, held); err != nil {
		d.log.Warn("pool stays claimed until the store answers", "pool", pool.CIDR, "err", err)
	}
	return nil
}

// returnPool ends the hold on a pool on which the caller works, and forgets it. It gives up soon.
func (d *Driver) returnPool(ctx context.Context, p heldPool) error {
	ctx, cancel := context.WithTimeout(ctx, returnSoon)
	defer cancel()
	if err := d.empty(ctx, p.CIDR); err != nil {
		return err
	}
	if err := d.cluster.ReleasePool(ctx, p.CIDR); err != nil {
		return err
	}
	return d.local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.LocalPoolKey(p.CIDR)})
}

// Holds lists the subnets that this host holds because Docker asked for them, without those that are going back.
func (d *Driver) Holds(ctx context.Context) ([]netip.Prefix, error) {
	held, err := d.readHolds(ctx)
	if err != nil {
		return nil, err
	}
	var pools []netip.Prefix
	for _, h := range held {
		if !h.Returning {
			pools = append(pools, h.CIDR)
		}
	}
	return pools, nil
}

// EndPool is ReleasePool for a subnet that Docker has forgotten.
func (d *Driver) EndPool(ctx context.Context, cidr netip.Prefix) error {
	return d.ReleasePool(ctx, &ipam.ReleasePoolRequest{PoolID: cidr.String()})
}
