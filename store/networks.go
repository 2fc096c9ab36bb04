package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// VNIs are drawn at random from the upper part of the 24 bits: Swarm and
// hand-made tunnels on the same hosts count up from small numbers.
const (
	vniFirst = 1 << 20
	vniEnd   = 1 << 24
)

// MaxPools is the largest number of subnets of a network: it can be made and
// removed in one transaction.
const MaxPools = 16

// Binding asks that a network exist on this host.
type Binding struct {
	// DockerID is the id that the Docker of this host has given it.
	DockerID string
	// Name is the network's name if it is known.
	Name     string
	Pools    []netip.Prefix
	MTU      int
	Internal bool
	// Agree says why what this host's user asks for can't go with the cluster's network, which another host has made; nil if anything can.
	Agree func(Network) error
	// ID is the cluster's network that is meant, and no other; empty for whichever has the name or pools.
	ID string
	// declared is that of a network which is made before any host has it.
	declared *Declaration
}

// Network returns a network by id, or ErrNotFound.
func (c *Cluster) Network(ctx context.Context, id string) (Network, error) {
	n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
	if err == nil && version == 0 {
		err = fmt.Errorf("%w: the cluster has no network %s", ErrNotFound, id)
	}
	return n, err
}

// NetworkNamed returns a network by its name, or ErrNotFound.
func (c *Cluster) NetworkNamed(ctx context.Context, name string) (Network, error) {
	e, err := c.kv.Get(ctx, NameKey(name))
	if err != nil {
		return Network{}, err
	}
	return c.Network(ctx, string(e.Value))
}

// Networks lists the networks of the cluster, without those whose records can't be read, which [Cluster.AllNetworks] tells.
func (c *Cluster) Networks(ctx context.Context) ([]Network, error) {
	networks, _, err := c.AllNetworks(ctx)
	return networks, err
}

// Bind makes the network exist on this host. A network with the same name or the same
// pools is joined, else one is made with a VNI of its own. It returns ErrMismatch if
// the network has another form, ErrInUse if this host has bound it already, ErrOverlap if a new one's subnet is used otherwise.
func (c *Cluster) Bind(ctx context.Context, b Binding) (Network, error) {
	if err := b.check(); err != nil {
		return Network{}, err
	}
	var n Network
	err := c.change(ctx, func() ([]Op, error) {
		id, pools, err := c.lookup(ctx, b)
		if err != nil {
			return nil, err
		}
		if id == "" {
			var ops []Op
			n, ops, err = c.makeNetwork(ctx, b, pools)
			return ops, err
		}
		var version uint64
		if n, version, err = find[Network](ctx, c.kv, NetworkKey(id)); err != nil {
			return nil, err
		}
		if b.ID != "" && (version == 0 || n.State == Deleting) {
			return nil, fmt.Errorf("%w: the cluster's network %s was removed meanwhile", ErrNotFound, b.ID)
		}
		if version == 0 { // removed between the two reads
			return []Op{{Kind: OpCheck, Key: NetworkKey(id), Version: 1}}, nil
		}
		return c.joinOps(ctx, &n, version, b)
	})
	return n, err
}

// check refuses what could never be bound.
func (b Binding) check() error {
	if b.DockerID == "" || len(b.Pools) == 0 || len(b.Pools) > MaxPools {
		return fmt.Errorf("%w: a network needs Docker's id and 1 to %d subnets, it has %q and %d",
			ErrInvalid, MaxPools, b.DockerID, len(b.Pools))
	}
	for i, p := range b.Pools {
		if slices.ContainsFunc(b.Pools[:i], p.Overlaps) {
			return fmt.Errorf("%w: the network's own subnets %v overlap", ErrInvalid, b.Pools)
		}
	}
	return nil
}

// versioned is a pool as it was read.
type versioned struct {
	Pool
	version uint64
}

// lookup finds the id of the network that b means, and b's pools as they are.
func (c *Cluster) lookup(ctx context.Context, b Binding) (id string, pools []versioned, err error) {
	if id = b.ID; id == "" && b.Name != "" {
		e, err := c.kv.Get(ctx, NameKey(b.Name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", nil, err
		}
		id = string(e.Value)
	}
	for _, cidr := range b.Pools {
		p, version, err := find[Pool](ctx, c.kv, PoolKey(cidr))
		if err != nil {
			return "", nil, err
		}
		if p.Network != "" {
			if id != "" && id != p.Network {
				return "", nil, fmt.Errorf("%w: subnet %s belongs to another network of the cluster: choose another --subnet or name",
					ErrMismatch, cidr)
			}
			id = p.Network
		}
		p.Schema, p.CIDR = Schema, cidr
		pools = append(pools, versioned{p, version})
	}
	return id, pools, nil
}

// joinOps adds this host to an existing network.
func (c *Cluster) joinOps(ctx context.Context, n *Network, version uint64, b Binding) ([]Op, error) {
	var revived []Op
	if n.State == Deleting { // somebody makes it anew before the last host has let go
		if !slices.Equal(n.Pools, b.Pools) || b.MTU != n.MTU || b.Internal != n.Internal {
			return nil, c.errRemoving(ctx, *n, b.Pools[0])
		}
		n.State, n.Name, n.Declared, n.Away = Active, "", nil, nil
		revived = renumberOps(n)
	}
	if !slices.Equal(n.Pools, b.Pools) {
		return nil, fmt.Errorf("%w: the cluster's network %s has the subnets %v, not %v: create it with the same --subnet here",
			ErrMismatch, n.Title(), n.Pools, b.Pools)
	}
	if b.Name != "" && n.Name != "" && b.Name != n.Name {
		return nil, fmt.Errorf("%w: subnet %s belongs to the cluster's network %s, not %s",
			ErrMismatch, b.Pools[0], n.Name, b.Name)
	}
	if err := b.agrees(*n); err != nil {
		return nil, err
	}
	if b.Internal != n.Internal {
		return nil, fmt.Errorf("%w: --internal of the cluster's network %s is %t, not %t: create it in the same way here",
			ErrMismatch, n.Title(), n.Internal, b.Internal)
	}
	if has := n.Hosts[c.host]; has != "" && has != b.DockerID {
		return nil, fmt.Errorf("%w: this host has the network with subnet %s already, as Docker network %.12s: use that one or choose another --subnet",
			ErrInUse, b.Pools[0], has)
	} else if has == b.DockerID && revived == nil && (b.Name == "" || n.Name == b.Name) {
		return nil, nil
	}
	ops := revived
	if b.Name != "" && n.Name == "" {
		n.Name = b.Name
		ops = append(ops, Op{Kind: OpSet, Key: NameKey(b.Name), Value: []byte(n.ID)})
	}
	if n.Hosts == nil {
		n.Hosts = map[string]string{}
	}
	n.Hosts[c.host] = b.DockerID
	n.Away = without(n.Away, c.host)
	return append(ops, setNetwork(*n, version)), nil
}

// agrees is ErrMismatch where the options of b can't go with those of an existing network.
func (b Binding) agrees(n Network) error {
	if b.Agree == nil {
		return nil
	}
	if err := b.Agree(n); err != nil {
		return fmt.Errorf("%w: the cluster's network %s was %w", ErrMismatch, n.Title(), err)
	}
	return nil
}

// renumberOps gives a network that is made again another VNI. A host that is off may still have the former network: its containers, which
// start before it knows what happened, must not join the new one's segment. Hosts that have the network under its new name follow in
// their next Sync.
func renumberOps(n *Network) []Op {
	former := n.VNI
	for n.VNI == former {
		n.VNI = drawVNI()
	}
	return []Op{{Kind: OpRemove, Key: VNIKey(former)}, {Kind: OpSet, Key: VNIKey(n.VNI), Value: []byte(n.ID)}}
}

func drawVNI() uint32 { return vniFirst + rand.Uint32N(vniEnd-vniFirst) }

// errRemoving says that a subnet still belongs to a network that is being removed, with the hosts that have it.
func (c *Cluster) errRemoving(ctx context.Context, n Network, cidr netip.Prefix) error {
	hosts := slices.Sorted(maps.Keys(n.Hosts))
	for i, id := range hosts {
		hosts[i] = c.hostName(ctx, id)
	}
	return fmt.Errorf("%w: the former network with subnet %s is still being removed on %s: repeat the command in a moment (start that host if it is off, "+
		"or 'socketplane host rm' it if it does not come back), or choose another --subnet", ErrInUse, cidr, strings.Join(hosts, ", "))
}

// makeNetwork returns the operations that make a new network of b's pools.
func (c *Cluster) makeNetwork(ctx context.Context, b Binding, pools []versioned) (Network, []Op, error) {
	if err := c.checkUses(ctx, b.Pools); err != nil {
		return Network{}, nil, err
	}
	n := Network{
		Schema: Schema, ID: cmp.Or(b.ID, NewNonce()), Name: b.Name, VNI: drawVNI(),
		Pools: b.Pools, MTU: b.MTU, Internal: b.Internal, Hosts: map[string]string{}, Declared: b.declared,
	}
	if b.DockerID != "" {
		n.Hosts[c.host] = b.DockerID
	}
	var ops []Op
	var fresh []netip.Prefix
	for _, p := range pools {
		if p.version == 0 {
			fresh = append(fresh, p.CIDR)
		}
		p.Network = n.ID
		ops = append(ops, setPool(p.Pool, p.version))
	}
	if len(fresh) > 0 {
		check, err := c.newPoolOps(ctx, fresh...)
		if err != nil {
			return n, nil, err
		}
		ops = append(ops, check...)
	}
	if n.Name != "" {
		ops = append(ops, Op{Kind: OpSet, Key: NameKey(n.Name), Value: []byte(n.ID)})
	}
	if n.Declared != nil {
		ops = append(ops, declaredOp(n))
	}
	ops = append(ops, Op{Kind: OpSet, Key: VNIKey(n.VNI), Value: []byte(n.ID)}, setNetwork(n, 0))
	return n, ops, nil
}

// Unbind ends the network on this host, and removes its endpoints' records. A network that is not
// declared, or that is being deleted, goes with its last host, together with its name and
// VNI, and with those pools that nobody holds through IPAM any more.
func (c *Cluster) Unbind(ctx context.Context, id, dockerID string) error {
	return c.leave(ctx, id, dockerID, false)
}

// Release is Unbind because this host's user removed the network: it goes from all hosts if
// no host has endpoints on it, else this host is noted as away.
func (c *Cluster) Release(ctx context.Context, id, dockerID string) error {
	return c.leave(ctx, id, dockerID, true)
}

func (c *Cluster) leave(ctx context.Context, id, dockerID string, wish bool) error {
	return c.change(ctx, func() ([]Op, error) {
		n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
		if err != nil || version == 0 || n.Hosts[c.host] != dockerID {
			return nil, err
		}
		ops := []Op{
			{Kind: OpRemove, Key: EndpointsKey(id, c.host)},
			{Kind: OpRemove, Key: IndexKey(id, c.host)},
		}
		delete(n.Hosts, c.host)
		declared := n.Declared != nil && n.State == Active
		if len(n.Hosts) == 0 && (wish || !declared) {
			more, err := c.removeOps(ctx, n, version)
			return append(ops, more...), err
		}
		if declared && wish {
			more, err := c.wishOps(ctx, &n)
			if err != nil {
				return nil, err
			}
			ops = append(ops, more...)
		}
		return append(ops, setNetwork(n, version)), nil
	})
}

// wishOps carries out in n that this host's user wants it removed; the caller writes n.
func (c *Cluster) wishOps(ctx context.Context, n *Network) ([]Op, error) {
	users, err := c.Users(ctx, n.ID)
	if err != nil {
		return nil, err
	}
	if users = without(users, c.host); len(users) == 0 {
		return deletingOps(n), nil
	}
	n.Away = append(without(n.Away, c.host), c.host)
	slices.Sort(n.Away)
	return nil, nil
}

// Discard does the second half of Release after Unbind: this host's user removed the network. It changes nothing if
// this host has the network again. It can be repeated.
func (c *Cluster) Discard(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
		if err != nil || version == 0 || n.State == Deleting || n.Declared == nil || n.Hosts[c.host] != "" {
			return nil, err
		}
		if len(n.Hosts) == 0 {
			return c.removeOps(ctx, n, version)
		}
		ops, err := c.wishOps(ctx, &n)
		return append(ops, setNetwork(n, version)), err
	})
}

// removeOps removes a network that no host has, its keys, and its pools unless somebody holds them.
func (c *Cluster) removeOps(ctx context.Context, n Network, version uint64) ([]Op, error) {
	ops := []Op{{Kind: OpDelete, Key: NetworkKey(n.ID), Version: version}, {Kind: OpRemove, Key: VNIKey(n.VNI)}}
	if n.State == Active { // else name and declaration are somebody else's or gone
		if n.Name != "" {
			ops = append(ops, Op{Kind: OpRemove, Key: NameKey(n.Name)})
		}
		if n.Declared != nil {
			ops = append(ops, Op{Kind: OpRemove, Key: DeclaredKey(n.ID)})
		}
	}
	var pools []versioned
	for _, cidr := range n.Pools {
		p, pv, err := find[Pool](ctx, c.kv, PoolKey(cidr))
		if err != nil {
			return nil, err
		}
		if pv == 0 || p.Network != n.ID {
			continue
		}
		p.Network = ""
		pools = append(pools, versioned{p, pv})
	}
	poolOps, err := c.leavePools(ctx, []Op{{Kind: OpCheck, Key: NetworkKey(n.ID), Version: version}}, pools...)
	return append(ops, poolOps...), err
}

// Title is what to call the network in a message.
func (n Network) Title() string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

func setNetwork(n Network, version uint64) Op {
	n.Nonce = NewNonce()
	return Op{Kind: OpSet, Key: NetworkKey(n.ID), Value: Encode(n), Version: version}
}
