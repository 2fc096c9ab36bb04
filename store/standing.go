package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mark is the layout as a change reads it, and the operation by which its transaction fails when that has changed.
type mark struct {
	layout int
	check  Op
}

// apart says whether records have their hosts and holders beside them.
func (m mark) apart() bool { return m.layout > FirstLayout }

// schema is that of the records of networks and pools.
func (m mark) schema() int {
	if m.apart() {
		return apartSchema
	}
	return Schema
}

func (c *core) mark(ctx context.Context) (mark, error) {
	layout, check, err := c.layout(ctx)
	return mark{layout, check}, err
}

// errReformed says that a record was just brought into the form of the layout: what decides on it reads it again.
func errReformed(key string) error {
	return fmt.Errorf("%w: %s has just been brought into the form of the cluster's layout", ErrConflict, key)
}

// standing is a network, and how this host stands to it, as a change reads both and writes them: in the form of the cluster's layout. In the second one
// hosts that change their bindings write their own keys only, and do not meet.
type standing struct {
	networkRecord
	mark
	version uint64 // of the record; 0 if there is none
	host    string
	own     Bound
	// ownVersion is that of BoundKey, in the second layout.
	ownVersion uint64
	// changed says that the record is to be written, moved that the binding is.
	changed, moved bool
}

// standing reads a network. A record in the form of another layout is brought into that of the cluster's first, and ErrConflict is returned: change
// decides again then.
func (c *core) standing(ctx context.Context, id string) (standing, error) {
	m, err := c.mark(ctx)
	if err != nil {
		return standing{host: c.host, mark: m}, err
	}
	return c.standingIn(ctx, m, id)
}

// standingIn is standing where the layout has been read already.
func (c *core) standingIn(ctx context.Context, m mark, id string) (standing, error) {
	s := standing{host: c.host, mark: m}
	var err error
	if s.networkRecord, s.version, err = find[networkRecord](ctx, c.kv, NetworkKey(id)); err != nil || s.version == 0 {
		return s, err
	}
	if apart(s.Schema) != s.apart() {
		if err := c.reformNetwork(ctx, id); err != nil {
			return s, err
		}
		return s, errReformed(NetworkKey(id))
	}
	if !s.apart() {
		s.own = s.bindings()[c.host]
		return s, nil
	}
	var own boundRecord
	own, s.ownVersion, err = find[boundRecord](ctx, c.kv, BoundKey(id, c.host))
	if s.own = own.of(s.Network); err != nil || s.own.DockerID != "" {
		return s, err
	}
	// Nothing may be all that there is to do, and no transaction says then that this was true: the record may have got its former form in between.
	if same, err := c.same(ctx, NetworkKey(id), s.version); err != nil || !same {
		return s, cmp.Or(err, errReformed(NetworkKey(id)))
	}
	return s, nil
}

// newStanding is a network that is to be made.
func (c *core) newStanding(m mark, n Network) standing {
	n.Schema = m.schema()
	s := standing{networkRecord: networkRecord{Network: n}, mark: m, host: c.host, changed: true}
	if !m.apart() {
		s.Hosts = map[string]string{}
	}
	return s
}

// put makes this host stand so to the network.
func (s *standing) put(b Bound) {
	s.own, s.moved = b, true
	if s.apart() {
		return
	}
	s.changed = true
	if s.Hosts = maps.Clone(s.Hosts); s.Hosts == nil {
		s.Hosts = map[string]string{}
	}
	s.Away = without(s.Away, s.host)
	delete(s.Hosts, s.host)
	if b.DockerID != "" {
		s.Hosts[s.host] = b.DockerID
	}
	if b.Away {
		s.Away = append(s.Away, s.host)
		slices.Sort(s.Away)
	}
}

// ops write what has changed, and fail if the record or the layout has meanwhile.
func (s standing) ops() []Op {
	ops := []Op{s.check}
	if s.changed {
		ops = append(ops, setNetwork(s.networkRecord, s.version))
	} else {
		ops = append(ops, Op{Kind: OpCheck, Key: NetworkKey(s.ID), Version: s.version})
	}
	if s.moved && s.apart() {
		ops = append(ops, s.ownOp())
	}
	return ops
}

// ownOp writes this host's binding in the second layout.
func (s standing) ownOp() Op {
	op := Op{Kind: OpSet, Key: BoundKey(s.ID, s.host), Version: s.ownVersion}
	switch {
	case s.own != (Bound{}):
		op.Value = Encode(s.own.record(s.Network))
	case s.ownVersion == 0:
		op.Kind = OpCheck
	default:
		op.Kind = OpDelete
	}
	return op
}

// stays are the operations by which a transaction fails once this host's binding has changed. In the second layout other hosts' bindings and changes of the
// network do not matter.
func (s standing) stays() []Op {
	if !s.apart() {
		return []Op{{Kind: OpCheck, Key: NetworkKey(s.ID), Version: s.version}}
	}
	return []Op{s.check, {Kind: OpCheck, Key: BoundKey(s.ID, s.host), Version: s.ownVersion}}
}

// boundOps are the operations by which a transaction fails once this host has not the network any more. ErrNotFound says that it has it not; ErrConflict that
// it is to be asked again, as change does.
func (c *core) boundOps(ctx context.Context, m mark, network string) ([]Op, error) {
	s, err := c.standingIn(ctx, m, network)
	if err != nil {
		return nil, err
	}
	if s.version == 0 || s.own.DockerID == "" {
		return nil, fmt.Errorf("%w: the cluster does not know network %s on this host: remove and create it here again", ErrNotFound, network)
	}
	return s.stays(), nil
}

// unbound says whether no host has the network, so that this stays true or the record changes. It returns the record as it is then: in the second layout joins do not
// change a record, so it is Closing first, and looked at once more.
func (c *core) unbound(ctx context.Context, s standing) (standing, bool, error) {
	all, err := c.readBindings(ctx, s.networkRecord)
	if err != nil || len(all.Present()) > 0 || !s.apart() || s.State != Active {
		return s, err == nil && len(all.Present()) == 0, err
	}
	s.State, s.changed = Closing, true
	if err := c.kv.Apply(ctx, s.ops()...); err != nil {
		return s, false, err
	}
	now, err := c.standing(ctx, s.ID)
	if err != nil {
		return s, false, err
	}
	if now.version == 0 || now.State == Active {
		return s, false, fmt.Errorf("%w: network %s has been joined or removed", ErrConflict, s.ID)
	}
	all, err = c.readBindings(ctx, now.networkRecord)
	return now, err == nil && len(all.Present()) == 0, err
}

// endNetwork removes a network that no host has, if it is unneeded then. It says whether it is gone. It can be repeated, by any host.
func (c *core) endNetwork(ctx context.Context, id string, unneeded func(Network) bool) (gone bool, err error) {
	var last standing
	err = c.change(ctx, func() ([]Op, error) {
		gone, last = false, standing{}
		s, err := c.standing(ctx, id)
		if err != nil {
			return nil, err
		}
		if s.version == 0 || !unneeded(s.Network) {
			gone = s.version == 0
			return nil, nil
		}
		s, empty, err := c.unbound(ctx, s)
		switch {
		case err != nil:
			return nil, err
		case empty:
			gone, last = true, s
			return c.removeOps(ctx, s)
		case s.State == Closing:
			s.State, s.changed = Active, true
			return s.ops(), nil
		}
		return nil, nil
	})
	if err != nil || !gone || !last.apart() {
		return gone && err == nil, err
	}
	return true, c.afterNetwork(ctx, last)
}

// afterNetwork removes what a network leaves in the second layout: the words of hosts that let go of it, and pools that were held when it went.
func (c *core) afterNetwork(ctx context.Context, s standing) error {
	entries, err := c.kv.List(ctx, boundTo(s.ID))
	if err != nil {
		return err
	}
	for _, chunk := range Chunks(removals(entries), Op{Kind: OpCheck, Key: NetworkKey(s.ID)}) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return ignoreConflict(err) // it is made again, by an import
		}
	}
	for _, cidr := range s.Pools {
		if err := c.endPool(ctx, cidr, ""); err != nil {
			return err
		}
	}
	return nil
}

// removals remove entries whatever they have become.
func removals(entries []Entry) []Op {
	ops := make([]Op, len(entries))
	for i, e := range entries {
		ops[i] = Op{Kind: OpRemove, Key: e.Key}
	}
	return ops
}

// boundOfKey reads what BoundKey gave.
func boundOfKey(key string) (network, host string) {
	network, host, _ = strings.Cut(strings.TrimPrefix(key, BoundPrefix), "/")
	return network, host
}
