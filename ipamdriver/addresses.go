package ipamdriver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// Options of RequestAddress that libnetwork sets (libnetwork/ipamapi, netlabel).
const (
	optType    = "RequestAddressType"
	typeGw     = "com.docker.network.gateway"
	optMAC     = "com.docker.network.endpoint.macaddress"
	returnSoon = 2 * time.Second // how long a release waits for the cluster
)

// RequestAddress hands out an address. Which kind is told by what Docker sends:
// a gateway has its type, a container's has the MAC (we say that we require it), and an
// auxiliary address has neither. Gateway and auxiliary addresses are the network's, on all hosts.
func (d *Driver) RequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	pool, err := parsePoolID(r.PoolID)
	if err != nil {
		return nil, err
	}
	var want netip.Addr
	if r.Address != "" {
		if want, err = netip.ParseAddr(r.Address); err != nil {
			return nil, fmt.Errorf("%w: %q is not an IP address", ErrBadRequest, r.Address)
		}
		if !pool.Assignable(want) {
			return nil, fmt.Errorf("%w: %s can't be used in subnet %s: it is outside, or the network or broadcast address",
				ErrBadRequest, want, pool.CIDR)
		}
	}
	var got netip.Addr
	switch {
	case r.Options[optType] == typeGw:
		got, err = d.gateway(ctx, pool, want)
	case want.IsValid() && r.Options[optMAC] == "":
		got, err = want, d.ReserveShared(ctx, pool.CIDR, want)
	case want.IsValid():
		got, err = want, d.Reserve(ctx, pool.CIDR, want, r.Options[optMAC])
	default:
		got, err = d.dynamic(ctx, pool, r.Options[optMAC])
	}
	if err != nil {
		return nil, err
	}
	return &ipam.RequestAddressResponse{
		Address: netip.PrefixFrom(got, pool.CIDR.Bits()).String(), Data: map[string]string{},
	}, nil
}

// gateway gives the pool's gateway, and chooses it on the first host that asks.
func (d *Driver) gateway(ctx context.Context, pool ipalloc.Pool, want netip.Addr) (netip.Addr, error) {
	if want.IsValid() {
		return want, d.cluster.SetGateway(ctx, pool.CIDR, want)
	}
	whole := ipalloc.Pool{CIDR: pool.CIDR, Range: pool.CIDR}
	first := store.BlockOf(pool.CIDR, pool.CIDR.Addr())
	tried := map[netip.Addr]bool{}
	for {
		p, err := d.cluster.Pool(ctx, pool.CIDR)
		if err != nil || p.Gateway.IsValid() {
			return p.Gateway, err
		}
		addr, ok := whole.Free(first, func(a netip.Addr) bool { return tried[a] })
		if !ok {
			return addr, fmt.Errorf("%w: no room for a gateway in %s: give --gateway", ErrExhausted, pool.CIDR)
		}
		tried[addr] = true
		err = d.cluster.SetGateway(ctx, pool.CIDR, addr)
		if err == nil {
			return addr, nil
		}
		// Taken by a container, or another host chose the gateway just now.
		if !errors.Is(err, store.ErrTaken) && !errors.Is(err, store.ErrMismatch) {
			return addr, err
		}
	}
}

// ReserveShared claims an address for the network on all of its hosts.
func (d *Driver) ReserveShared(ctx context.Context, pool netip.Prefix, addr netip.Addr) error {
	return d.cluster.Claim(ctx, pool, addr, store.OwnerNetwork)
}

// Reserve claims a certain address for a container of this host. It returns
// store.ErrTaken, naming the holder, if somebody has it; unless that is a container of
// this host with the same MAC, which can only be the same one.
func (d *Driver) Reserve(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error {
	unlock, err := d.busy.lock(ctx, store.LocalAddressKey(pool, addr))
	if err != nil {
		return err
	}
	defer unlock()
	had, err := d.journalled(ctx, pool, addr)
	if err != nil {
		return err
	}
	if had != nil && !had.Returning && mac != "" && had.MAC == mac {
		return nil
	}
	err = d.take(ctx, pool, addr, mac)
	if errors.Is(err, store.ErrTaken) {
		return fmt.Errorf("%w: choose another --ip, or let 'docker network create --ipam-driver socketplane' choose addresses", err)
	}
	return err
}

// take claims an address, on which the caller works, and journals it.
func (d *Driver) take(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error {
	had, err := d.journalled(ctx, pool, addr)
	if err != nil {
		return err
	}
	if had != nil && !had.Returning {
		return fmt.Errorf("%w: %s of %s belongs to another container of this host", store.ErrTaken, addr, pool)
	}
	if had != nil {
		if err := d.giveBack(ctx, *had); err != nil {
			return err
		}
	}
	a := address{Schema: store.Schema, Pool: pool, Addr: addr, MAC: mac, Since: time.Now().UTC()}
	err = d.cluster.Claim(ctx, pool, addr, d.cluster.Host())
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if err == nil {
		if err = d.put(ctx, a); err == nil {
			return nil
		}
		err = fmt.Errorf("address %s is not handed out, because this host's journal can't be written: %w", addr, err)
	}
	// Claimed or not, nobody has it: Sync gives it back.
	a.Returning = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnSoon)
	defer cancel()
	return errors.Join(err, d.put(ctx, a))
}

func (d *Driver) journalled(ctx context.Context, pool netip.Prefix, addr netip.Addr) (*address, error) {
	e, err := d.local.Get(ctx, store.LocalAddressKey(pool, addr))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a, err := store.Decode[address](e)
	return &a, err
}

func (d *Driver) put(ctx context.Context, a address) error {
	return d.local.Apply(ctx, store.Op{Kind: store.OpPut, Key: a.key(), Value: store.Encode(a)})
}

// dynamic claims a free address of the pool's range.
func (d *Driver) dynamic(ctx context.Context, pool ipalloc.Pool, mac string) (netip.Addr, error) {
	refused := map[netip.Addr]bool{}
	for {
		addr, err := d.pick(ctx, pool, refused)
		if err != nil {
			return addr, err
		}
		unlock, _ := d.busy.try(store.LocalAddressKey(pool.CIDR, addr))
		if unlock == nil {
			continue // another request of this host was faster: look again
		}
		err = d.take(ctx, pool.CIDR, addr, mac)
		unlock()
		if !errors.Is(err, store.ErrTaken) {
			return addr, err
		}
		// Another host was faster, or the cluster has lost a claim that the journal knows.
		refused[addr] = true
	}
}

// pick chooses a free address: from the block used last, else from a block in
// which only this host has claims, else from one where nobody has, else from any.
func (d *Driver) pick(ctx context.Context, pool ipalloc.Pool, refused map[netip.Addr]bool) (netip.Addr, error) {
	d.mu.Lock()
	hint, hinted := d.hints[pool.String()]
	d.mu.Unlock()
	blocks, err := d.cluster.Blocks(ctx, pool.CIDR)
	if err != nil {
		return netip.Addr{}, err
	}
	claims := func(block netip.Prefix) map[netip.Addr]store.Claim {
		return blocks[store.BlockKey(pool.CIDR, store.BlockOf(pool.CIDR, block.Addr()))].Claims
	}
	free := func(block netip.Prefix) (netip.Addr, bool) {
		return pool.Free(block, func(a netip.Addr) bool {
			_, taken := claims(block)[a]
			return taken || refused[a] || d.busy.has(store.LocalAddressKey(pool.CIDR, a))
		})
	}
	if hinted {
		if a, ok := free(hint); ok {
			return a, nil
		}
	}
	best, bestBlock, bestRank := netip.Addr{}, netip.Prefix{}, len(ranks)
	seen := 0
	for block := range pool.Blocks(d.cluster.Host()) {
		if rank := d.rank(claims(block)); rank < bestRank {
			if a, ok := free(block); ok {
				best, bestBlock, bestRank = a, block, rank
			}
		}
		// The order among empty blocks is the host's own; once all blocks with
		// claims were seen, the first free one is as good as any.
		if seen++; bestRank == 0 || (bestRank < len(ranks) && seen > len(blocks)+1) {
			break
		}
	}
	if bestRank == len(ranks) {
		return best, d.exhausted(ctx, pool, blocks)
	}
	d.mu.Lock()
	d.hints[pool.String()] = bestBlock
	d.mu.Unlock()
	return best, nil
}

// ranks are the kinds of block in the order in which they are preferred.
var ranks = [...]string{"own", "empty", "shared"}

func (d *Driver) rank(claims map[netip.Addr]store.Claim) int {
	own, other := false, false
	for _, c := range claims {
		own = own || c.Owner == d.cluster.Host()
		other = other || (c.Owner != d.cluster.Host() && c.Owner != store.OwnerNetwork)
	}
	switch {
	case other:
		return 2
	case own:
		return 0
	}
	return 1
}

// exhausted says who holds the pool's addresses.
func (d *Driver) exhausted(ctx context.Context, pool ipalloc.Pool, blocks map[string]store.Block) error {
	count := map[string]int{}
	for _, b := range blocks {
		for _, c := range b.Claims {
			count[c.Owner]++
		}
	}
	var who []string
	for _, owner := range slices.Sorted(maps.Keys(count)) {
		who = append(who, fmt.Sprintf("%s: %d", d.cluster.OwnerName(ctx, owner), count[owner]))
	}
	return fmt.Errorf("%w in %s: all %d are in use (%s): remove containers or use a larger --subnet",
		ErrExhausted, pool, pool.Size(), strings.Join(who, ", "))
}

// ReleaseAddress takes an address back. Gateway and auxiliary addresses stay the
// network's until the pool goes. Unknown addresses are no error.
func (d *Driver) ReleaseAddress(ctx context.Context, r *ipam.ReleaseAddressRequest) error {
	pool, err := parsePoolID(r.PoolID)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(r.Address)
	if err != nil {
		return fmt.Errorf("%w: %q is not an IP address", ErrBadRequest, r.Address)
	}
	return d.Release(ctx, pool.CIDR, addr, "")
}

// Release gives a container's address back, if it was handed out for that MAC ("" is any). It succeeds when
// that is journalled; what the cluster can't be told now, Sync tells later.
func (d *Driver) Release(ctx context.Context, pool netip.Prefix, addr netip.Addr, mac string) error {
	unlock, err := d.busy.lock(ctx, store.LocalAddressKey(pool, addr))
	if err != nil {
		return err
	}
	defer unlock()
	a, err := d.journalled(ctx, pool, addr)
	if err != nil || a == nil || (mac != "" && a.MAC != mac) {
		return err
	}
	a.Returning = true
	if err := d.put(ctx, *a); err != nil {
		return err
	}
	if err := d.giveBack(ctx, *a); err != nil {
		d.log.Warn("address stays claimed until the store answers", "addr", addr, "pool", pool, "err", err)
	}
	return nil
}

// giveBack ends the claim of an address on which the caller works, and forgets it. It gives up soon.
func (d *Driver) giveBack(ctx context.Context, a address) error {
	ctx, cancel := context.WithTimeout(ctx, returnSoon)
	defer cancel()
	if err := d.cluster.Unclaim(ctx, a.Pool, d.cluster.Host(), a.Addr); err != nil {
		return err
	}
	return d.local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: a.key()})
}
