package ipamdriver

import (
	"context"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// Use is what one owner has of a pool.
type Use struct {
	// Owner is the host, or the network (gateway and auxiliary addresses), or Swarm.
	Owner store.Owner
	// HandedOut counts addresses that containers have; of other hosts, as far as they have published them.
	HandedOut int
	// Static counts those among them that were asked for by name; of other hosts, as they told a few seconds ago.
	Static int
	// Resting and Spare count claims that no container has; which of them rest on other hosts is what these told.
	Resting, Spare int
}

// Use tells which hosts have how much of a pool, sorted by host. What this host has is known exactly; of others it
// takes the addresses of the network's endpoints as they have published them, by host.
func (d *Driver) Use(ctx context.Context, pool netip.Prefix, published map[string][]netip.Addr) ([]Use, error) {
	blocks, err := d.cluster.Blocks(ctx, pool)
	if err != nil {
		return nil, err
	}
	claims := map[store.Owner]map[netip.Addr]bool{}
	for _, b := range blocks {
		for a, c := range b.Claims {
			if claims[c.Owner] == nil {
				claims[c.Owner] = map[netip.Addr]bool{}
			}
			claims[c.Owner][a] = true
		}
	}
	delete(claims, d.cluster.Owner())
	own, err := d.ownUse(ctx, pool)
	if err != nil {
		return nil, err
	}
	told, err := d.cluster.Uses(ctx, pool)
	if err != nil {
		return nil, err
	}
	var all []Use
	if own != (Use{Owner: own.Owner}) {
		all = append(all, own)
	}
	for owner, addrs := range claims {
		host, is := owner.Host()
		u := Use{Owner: owner, HandedOut: len(addrs)}
		if is {
			u.HandedOut = among(addrs, published[host])
		}
		// What was told is older than the claims: never more than there is.
		u.Static = min(told[host].Static, u.HandedOut)
		u.Resting = min(told[host].Resting, len(addrs)-u.HandedOut)
		u.Spare = len(addrs) - u.HandedOut - u.Resting
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b Use) int { return a.Owner.Compare(b.Owner) })
	return all, nil
}

func (d *Driver) ownUse(ctx context.Context, pool netip.Prefix) (Use, error) {
	u := Use{Owner: d.cluster.Owner()}
	s, err := d.find(ctx, pool)
	if err != nil {
		return u, err
	}
	u = s.use()
	u.Owner = d.cluster.Owner()
	return u, nil
}

// among counts which of some addresses are claimed.
func among(claimed map[netip.Addr]bool, addrs []netip.Addr) (n int) {
	for _, a := range addrs {
		if claimed[a] {
			n++
		}
	}
	return n
}

// Counts tells how many addresses this host has claimed of all pools, by what it does with them.
func (d *Driver) Counts(ctx context.Context) (handedOut, resting, spare int, err error) {
	stocks, err := d.all(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	for _, s := range stocks {
		s.mu.Lock()
		h, r, free := s.ledger.Counts(s.now())
		s.mu.Unlock()
		handedOut, resting, spare = handedOut+h, resting+r, spare+free
	}
	return handedOut, resting, spare, nil
}

// HandedOut lists the addresses that this host has handed out, and to whom.
func (d *Driver) HandedOut(ctx context.Context) ([]Held, error) {
	stocks, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	var all []Held
	for _, s := range stocks {
		s.mu.Lock()
		for addr, by := range s.held {
			all = append(all, Held{Pool: s.pool, Addr: addr, MAC: by.MAC, Static: by.Static})
		}
		s.mu.Unlock()
	}
	return all, nil
}

// EndAddress is ReleaseAddress for an address that Docker has forgotten. One that is somebody else's by now is no error.
func (d *Driver) EndAddress(ctx context.Context, h Held) error {
	return d.release(ctx, h.Pool, h.Addr, h.MAC, true)
}
