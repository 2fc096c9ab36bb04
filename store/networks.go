package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
func (c NetworkRecords) Network(ctx context.Context, id string) (Network, error) {
	n, version, err := find[Network](ctx, c.kv, NetworkKey(id))
	if err == nil && version == 0 {
		err = fmt.Errorf("%w: the cluster has no network %s", ErrNotFound, id)
	}
	return n, err
}

// NetworkNamed returns a network by its name, or ErrNotFound.
func (c NetworkRecords) NetworkNamed(ctx context.Context, name string) (Network, error) {
	e, err := c.kv.Get(ctx, NameKey(name))
	if err != nil {
		return Network{}, err
	}
	return c.Network(ctx, string(e.Value))
}

// Networks lists the networks of the cluster, without those whose records can't be read, which [NetworkRecords.AllNetworks] tells.
func (c NetworkRecords) Networks(ctx context.Context) ([]Network, error) {
	networks, _, err := c.AllNetworks(ctx)
	return networks, err
}

// Bind makes the network exist on this host. A network with the same name or the same
// pools is joined, else one is made with a VNI of its own. It returns ErrMismatch if
// the network has another form, ErrInUse if this host has bound it already, ErrOverlap if a new one's subnet is used otherwise.
func (c NetworkRecords) Bind(ctx context.Context, b Binding) (Network, error) {
	if err := b.check(); err != nil {
		return Network{}, err
	}
	var n Network
	err := c.change(ctx, func() ([]Op, error) {
		m, err := c.mark(ctx)
		if err != nil {
			return nil, err
		}
		id, pools, err := c.lookup(ctx, m, b)
		if err != nil {
			return nil, err
		}
		if id == "" {
			var ops []Op
			n, ops, err = c.makeNetwork(ctx, m, b, pools)
			return ops, err
		}
		s, err := c.standingIn(ctx, m, id)
		if err != nil {
			return nil, err
		}
		if b.ID != "" && (s.version == 0 || s.State == Deleting) {
			return nil, fmt.Errorf("%w: the cluster's network %s was removed meanwhile", ErrNotFound, b.ID)
		}
		if s.version == 0 { // removed between the two reads
			return []Op{{Kind: OpCheck, Key: NetworkKey(id), Version: 1}}, nil
		}
		ops, err := c.joinOps(ctx, &s, b)
		n = s.Network
		return ops, err
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

// lookup finds the id of the network that b means, and b's pools as they are.
func (c *core) lookup(ctx context.Context, m mark, b Binding) (id string, pools []holding, err error) {
	if id = b.ID; id == "" && b.Name != "" {
		e, err := c.kv.Get(ctx, NameKey(b.Name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", nil, err
		}
		id = string(e.Value)
	}
	for _, cidr := range b.Pools {
		p, err := c.holdingIn(ctx, m, cidr)
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
		pools = append(pools, p)
	}
	return id, pools, nil
}

// joinOps adds this host to an existing network.
func (c *core) joinOps(ctx context.Context, s *standing, b Binding) ([]Op, error) {
	n := &s.Network
	var revived []Op
	if n.State == Deleting { // it is made again before the last host has let go
		if !slices.Equal(n.Pools, b.Pools) || b.MTU != n.MTU || b.Internal != n.Internal {
			return nil, c.errRemoving(ctx, s.networkRecord, b.Pools[0])
		}
		n.State, n.Name, n.Declared, s.Away, s.changed = Active, "", nil, nil, true
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
	if has := s.own.DockerID; has != "" && has != b.DockerID {
		return nil, fmt.Errorf("%w: this host has the network with subnet %s already, as Docker network %.12s: use that one or choose another --subnet",
			ErrInUse, b.Pools[0], has)
	} else if has == b.DockerID && revived == nil && (b.Name == "" || n.Name == b.Name) {
		return nil, nil
	}
	ops := revived
	if b.Name != "" && n.Name == "" {
		n.Name, s.changed = b.Name, true
		ops = append(ops, Op{Kind: OpSet, Key: NameKey(b.Name), Value: []byte(n.ID)})
	}
	if n.State == Closing {
		n.State, s.changed = Active, true
	}
	s.put(Bound{DockerID: b.DockerID})
	return append(ops, s.ops()...), nil
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
func (c *core) errRemoving(ctx context.Context, n networkRecord, cidr netip.Prefix) error {
	all, err := c.readBindings(ctx, n)
	if err != nil {
		return err
	}
	hosts := all.Present()
	for i, id := range hosts {
		hosts[i] = c.hostName(ctx, id)
	}
	return fmt.Errorf("%w: the former network with subnet %s is still being removed on %s: repeat the command in a moment (start that host if it is off, "+
		"or 'socketplane host rm' it if it does not come back), or choose another --subnet", ErrInUse, cidr, strings.Join(hosts, ", "))
}

// makeNetwork returns the operations that make a new network of b's pools.
func (c *core) makeNetwork(ctx context.Context, m mark, b Binding, pools []holding) (Network, []Op, error) {
	if err := c.checkUses(ctx, b.Pools); err != nil {
		return Network{}, nil, err
	}
	s := c.newStanding(m, Network{
		ID: cmp.Or(b.ID, NewNonce()), Name: b.Name, VNI: drawVNI(), Pools: b.Pools, MTU: b.MTU, Internal: b.Internal, Declared: b.declared,
	})
	n := s.Network
	if b.DockerID != "" {
		s.put(Bound{DockerID: b.DockerID})
	}
	var ops []Op
	var fresh []netip.Prefix
	for _, p := range pools {
		if p.version == 0 {
			fresh = append(fresh, p.CIDR)
		}
		p.Network = n.ID
		p.reopen()
		ops = append(ops, setPool(p.poolRecord, p.version))
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
	ops = append(ops, Op{Kind: OpSet, Key: VNIKey(n.VNI), Value: []byte(n.ID)})
	return n, append(ops, s.ops()...), nil
}

// Title is what to call the network in a message.
func (n Network) Title() string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

func setNetwork(n networkRecord, version uint64) Op {
	n.Nonce = NewNonce()
	return Op{Kind: OpSet, Key: NetworkKey(n.ID), Value: Encode(n), Version: version}
}
