package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// ErrCollides says that networks of a host have names or subnets that another cluster uses for something else.
var ErrCollides = errors.New("networks collide")

// Imported says what Import has done.
type Imported struct {
	// Networks came along, as the cluster has them now: the VNI of some may be another one.
	Networks []Network
	// GaveWay are the names of networks that the cluster has already: the host's own go, as nothing used them.
	GaveWay []string
}

// cargo is a network, or a pool without one, that is taken along.
type cargo struct {
	network Network // ID is empty for a pool without one
	// docker is the id that this host's Docker has given the network; empty if it has it not.
	docker    string
	pools     []cargoPool
	claims    map[netip.Prefix]map[netip.Addr]Claim // by pool
	endpoints []Endpoint
	// unused is set for the network that was there from the start, and that nothing uses: it gives way.
	unused bool
	// known is set when the cluster has it, from an earlier try.
	known bool
}

// cargoPool is a pool with its holders that come along: this host and Swarm.
type cargoPool struct {
	Pool
	holders []Owner
}

// Import takes the networks of this host along from another store, of which it was the only host: names, subnets, its claims and
// endpoints. A network keeps its id, and its VNI unless the cluster has that. When a name or a subnet collides,
// nothing is changed and the error, which wraps ErrCollides, names all that do. It can be repeated, also after a crash in the middle.
//
// Until it returns, nobody else may change what this host has in either store.
func (c *Cluster) Import(ctx context.Context, from KV) (Imported, error) {
	all, err := NewCluster(from, c.host).cargoes(ctx)
	if err != nil {
		return Imported{}, err
	}
	if err := c.collisions(ctx, all); err != nil {
		return Imported{}, err
	}
	var done Imported
	var made []cargo
	for _, g := range all {
		n, err := c.take(ctx, g)
		if errors.Is(err, ErrCollides) { // somebody else was faster than this plan
			return Imported{}, errors.Join(err, c.undo(ctx, made))
		}
		if err != nil {
			return Imported{}, err
		}
		if !g.known {
			made = append(made, g)
		}
		switch {
		case g.unused:
			done.GaveWay = append(done.GaveWay, g.network.Name)
		case n.ID != "":
			done.Networks = append(done.Networks, n)
		}
	}
	for _, g := range all {
		if err := c.settle(ctx, g); err != nil {
			return Imported{}, err
		}
	}
	return done, nil
}

// cargoes reads all that this host has.
func (c *Cluster) cargoes(ctx context.Context) ([]cargo, error) {
	networks, unread, err := c.OwnNetworks(ctx)
	if err != nil {
		return nil, err
	}
	pools, unreadPools, err := c.cargoPools(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unread.Err(), unreadPools.Err()); err != nil { // nothing of this host is left behind
		return nil, err
	}
	first, err := c.kv.Get(ctx, DefaultMadeKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	var all []cargo
	for _, n := range networks {
		if n.DockerID == "" && (n.Declared == nil || n.State == Deleting || n.Away) {
			continue
		}
		e, err := c.Endpoints(ctx, n.ID, c.host)
		if err != nil {
			return nil, err
		}
		g := cargo{network: n.Network, docker: n.DockerID, endpoints: e.Endpoints, unused: n.State == Deleting}
		g.unused = g.unused || (n.Name != "" && n.Name == string(first.Value) && len(e.Endpoints) == 0)
		for _, p := range pools {
			if p.Network == n.ID {
				g.pools = append(g.pools, p)
			}
		}
		all = append(all, g)
	}
	for _, p := range pools {
		if p.Network == "" && len(p.holders) > 0 {
			all = append(all, cargo{pools: []cargoPool{p}})
		}
	}
	for i := range all {
		if all[i].claims, err = c.claimsOf(ctx, all[i].pools); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cargoPools lists all pools with those of their holders that come along.
func (c *Cluster) cargoPools(ctx context.Context) ([]cargoPool, Unreadable, error) {
	records, unread, err := c.poolRecords(ctx)
	if err != nil {
		return nil, nil, err
	}
	pools := make([]cargoPool, len(records))
	for i, r := range records {
		holders, err := c.readHolders(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		pools[i] = cargoPool{r.Pool, slices.DeleteFunc(holders, func(o Owner) bool {
			id, host := o.Host()
			return host && id != c.host
		})}
	}
	return pools, unread, nil
}

// claimsOf reads what this host, the networks and Swarm have claimed.
func (c *Cluster) claimsOf(ctx context.Context, pools []cargoPool) (map[netip.Prefix]map[netip.Addr]Claim, error) {
	claims := map[netip.Prefix]map[netip.Addr]Claim{}
	for _, p := range pools {
		blocks, err := c.Blocks(ctx, p.CIDR)
		if err != nil {
			return nil, err
		}
		claims[p.CIDR] = map[netip.Addr]Claim{}
		for _, b := range blocks {
			for addr, claim := range b.Claims {
				if id, host := claim.Owner.Host(); !host || id == c.host {
					claims[p.CIDR][addr] = claim
				}
			}
		}
	}
	return claims, nil
}

// collisions compares with what the cluster has, marks what is known there, and what gives way only if it must.
func (c *Cluster) collisions(ctx context.Context, all []cargo) error {
	networks, err := c.Networks(ctx)
	if err != nil {
		return err
	}
	pools, err := c.takenPools(ctx)
	if err != nil {
		return err
	}
	var found []string
	for i := range all {
		g := &all[i]
		if at := slices.IndexFunc(networks, func(n Network) bool { return n.ID == g.network.ID }); at >= 0 {
			g.known = true
			g.unused = networks[at].State == Deleting // it gave way before, or was removed there meanwhile
			continue
		}
		what := g.collides(networks, pools)
		if g.unused {
			g.unused = len(what) > 0 || g.network.State == Deleting
			continue
		}
		found = append(found, what...)
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: remove these here or there ('docker network rm'), then 'socketplane cluster join'", ErrCollides, strings.Join(found, "; "))
}

// takenPools are the subnets of the cluster; of one that is free only what overlaps it, and is not it, collides.
func (c *Cluster) takenPools(ctx context.Context) ([]takenPool, error) {
	records, unread, err := c.poolRecords(ctx)
	if err != nil {
		return nil, err
	}
	var all []takenPool
	for _, r := range records {
		free, err := c.free(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, takenPool{r.Pool, free})
	}
	for _, cidr := range unread.Subnets() {
		all = append(all, takenPool{Pool: Pool{CIDR: cidr, Network: "of a record that can't be read"}})
	}
	return all, nil
}

type takenPool struct {
	Pool
	free bool
}

// collides says what of the cluster is in the way of g.
func (g cargo) collides(networks []Network, pools []takenPool) []string {
	title := map[string]string{}
	var found []string
	for _, n := range networks {
		title[n.ID] = n.Title()
		if g.network.Name != "" && n.Name == g.network.Name && n.State != Deleting {
			found = append(found, fmt.Sprintf("the cluster has another network %s", n.Name))
		}
	}
	mine := "a subnet"
	if g.network.ID != "" {
		mine = "network " + g.network.Title()
	}
	for _, p := range g.pools {
		for _, other := range pools {
			if !other.CIDR.Overlaps(p.CIDR) || (other.CIDR == p.CIDR && other.free) {
				continue
			}
			found = append(found, fmt.Sprintf("%s of %s overlaps %s of the cluster's %s",
				p.CIDR, mine, other.CIDR, cmp.Or(title[other.Network], "hosts")))
		}
	}
	return found
}

// free says whether nobody but this host, and Swarm by its manager on this host, has the pool.
func (c *Cluster) free(ctx context.Context, r poolRecord) (bool, error) {
	if r.Network != "" {
		return false, nil
	}
	holders, err := c.readHolders(ctx, r)
	others := without(holders, HostOwner(c.host))
	if r.Manager == c.host {
		others = without(others, SwarmOwner())
	}
	return err == nil && len(others) == 0, err
}

// take makes one network here, with its pools and as many claims as fit into its transaction: nobody can claim in a pool that
// is not there.
func (c *Cluster) take(ctx context.Context, g cargo) (Network, error) {
	n := g.network
	if g.known {
		have, err := c.Network(ctx, n.ID)
		if err != nil || have.State == Deleting || g.docker == "" {
			return have, err
		}
		return c.Bind(ctx, Binding{ID: n.ID, DockerID: g.docker, Name: n.Name, Pools: n.Pools, Internal: n.Internal})
	}
	err := c.change(ctx, func() ([]Op, error) {
		var ops []Op
		var err error
		if !g.unused {
			if ops, err = c.poolOps(ctx, g); err != nil {
				return nil, err
			}
		}
		if g.network.ID == "" || (g.unused && g.docker == "") {
			return ops, nil
		}
		more, err := c.networkOps(ctx, &n, g)
		return append(ops, more...), err
	})
	return n, err
}

// settle claims what did not fit into the network's transaction, and publishes the endpoints.
func (c *Cluster) settle(ctx context.Context, g cargo) error {
	if g.unused {
		return nil
	}
	err := c.settleClaims(ctx, g)
	if err == nil && g.docker != "" && len(g.endpoints) > 0 {
		err = c.PutEndpoints(ctx, g.network.ID, g.endpoints)
	}
	if errors.Is(err, ErrNotFound) {
		return nil // removed meanwhile on another host: Docker's own goes as it does then
	}
	return err
}

func (c *Cluster) settleClaims(ctx context.Context, g cargo) error {
	for _, p := range g.pools {
		blocks := map[netip.Prefix]bool{}
		for addr := range g.claims[p.CIDR] {
			blocks[BlockOf(p.CIDR, addr)] = true
		}
		sorted := slices.SortedFunc(maps.Keys(blocks), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
		for some := range slices.Chunk(sorted, MaxBlocks) {
			_, _, err := c.ChangeBlocks(ctx, p.CIDR, some, nil, func(block netip.Prefix, claims map[netip.Addr]Claim) (take, give []netip.Addr) {
				for addr, claim := range g.claims[p.CIDR] {
					if _, taken := claims[addr]; !taken && claim.Owner == c.owner && block.Contains(addr) {
						take = append(take, addr)
					}
				}
				return take, nil
			})
			if err != nil {
				return err
			}
		}
		for addr, claim := range g.claims[p.CIDR] {
			if _, host := claim.Owner.Host(); host {
				continue
			}
			if err := c.Claim(ctx, p.CIDR, addr, claim.Owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// undo removes from the cluster what this try has brought; other hosts may have it by now.
func (c *Cluster) undo(ctx context.Context, made []cargo) error {
	var errs []error
	for _, g := range made {
		switch {
		case g.network.ID == "":
			for _, p := range g.pools {
				errs = append(errs, c.leavePool(ctx, p.CIDR), c.LeaveManaged(ctx, p.CIDR, p.Manager))
			}
		case g.docker != "":
			errs = append(errs, c.Release(ctx, g.network.ID, g.docker))
		default:
			errs = append(errs, c.Remove(ctx, g.network.ID))
		}
	}
	return errors.Join(errs...)
}
