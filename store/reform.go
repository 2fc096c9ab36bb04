package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Records of networks and pools are brought into the form of the cluster's layout by what changes them next, and the rest by Reform. A record tells its own form, and
// what lies beside a record of the first form means nothing, so that a conversion needs no state of its own: it can end anywhere, and be begun again by any host.

// Reform brings the records of all networks and pools, and the heads of hosts, into the form of the cluster's layout, but for those that can't be read, which it returns. It can be
// repeated.
func (c LayoutRecord) Reform(ctx context.Context) (Unreadable, error) {
	networks, unread, err := c.networkRecords(ctx)
	if err != nil {
		return nil, err
	}
	pools, unreadPools, err := c.poolRecords(ctx)
	if err != nil {
		return nil, err
	}
	m, err := c.mark(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(unread, unreadPools)
	errs := []error{c.ReformHosts(ctx)}
	for _, n := range networks {
		if apart(n.Schema) != m.apart() {
			errs = append(errs, c.settled(ctx, func() error { return c.reformNetwork(ctx, n.ID) }))
		}
	}
	for _, p := range pools {
		if apart(p.Schema) != m.apart() {
			errs = append(errs, c.settled(ctx, func() error { return c.reformPool(ctx, p.CIDR) }))
		}
	}
	if len(unread) == 0 && !m.apart() { // what conversions that were cut off have left
		errs = append(errs, c.settled(ctx, func() error { return c.clearAll(ctx) }))
	}
	if err := errors.Join(errs...); err != nil {
		return unread, fmt.Errorf("bring the records of networks and subnets into layout %d: %w", m.layout, err)
	}
	return unread, nil
}

// clearAll removes all that lies beside records, if all have the form of the first layout and that is the cluster's.
func (c *core) clearAll(ctx context.Context) error {
	m, err := c.mark(ctx)
	if err != nil || m.apart() {
		return err
	}
	networks, _, err := c.networkRecords(ctx)
	if err != nil || slices.ContainsFunc(networks, func(r networkRecord) bool { return apart(r.Schema) }) {
		return err
	}
	pools, _, err := c.poolRecords(ctx)
	if err != nil || slices.ContainsFunc(pools, func(r poolRecord) bool { return apart(r.Schema) }) {
		return err
	}
	return errors.Join(c.clear(ctx, BoundPrefix, m), c.clear(ctx, HoldersPrefix, m))
}

// settled repeats do until it meets no conflict.
func (c *core) settled(ctx context.Context, do func() error) error {
	return c.change(ctx, func() ([]Op, error) { return nil, do() })
}

// reformNetwork brings one network's record into the form of the layout. ErrConflict says that it changed meanwhile.
func (c *core) reformNetwork(ctx context.Context, id string) error {
	m, err := c.mark(ctx)
	if err != nil {
		return err
	}
	n, version, err := find[networkRecord](ctx, c.kv, NetworkKey(id))
	if err != nil || version == 0 || apart(n.Schema) == m.apart() {
		return err
	}
	if m.apart() {
		want := map[string]any{}
		for host, b := range n.bindings() {
			want[BoundKey(id, host)] = b.record(n.Network)
		}
		if err := c.spread(ctx, boundTo(id), want, m.check, Op{Kind: OpCheck, Key: NetworkKey(id), Version: version}); err != nil {
			return err
		}
		n.Schema, n.Hosts, n.Away = m.schema(), nil, nil
		return c.kv.Apply(ctx, m.check, setNetwork(n, version))
	}
	// Nothing is written below the prefix while the layout is the first, so what is listed is all.
	all, err := c.readBindings(ctx, n)
	if err != nil {
		return err
	}
	if n.Schema, n.Hosts = m.schema(), map[string]string{}; n.State != Deleting {
		n.Away = all.Away()
	}
	for _, host := range all.Present() {
		n.Hosts[host] = all[host].DockerID
	}
	if n.State == Closing { // agents that know the first layout only do not know it
		n.State = Active
	}
	if err := c.kv.Apply(ctx, m.check, setNetwork(n, version)); err != nil {
		return err
	}
	return c.clear(ctx, boundTo(id), m)
}

// reformPool is reformNetwork for a pool.
func (c *core) reformPool(ctx context.Context, cidr netip.Prefix) error {
	m, err := c.mark(ctx)
	if err != nil {
		return err
	}
	p, version, err := find[poolRecord](ctx, c.kv, PoolKey(cidr))
	if err != nil || version == 0 || apart(p.Schema) == m.apart() {
		return err
	}
	if m.apart() {
		want := map[string]any{}
		for _, o := range p.Holders {
			want[HolderKey(cidr, o)] = holderRecord{Schema}
		}
		if err := c.spread(ctx, holdersOf(cidr), want, m.check, Op{Kind: OpCheck, Key: PoolKey(cidr), Version: version}); err != nil {
			return err
		}
		p.Schema, p.Holders = m.schema(), nil
		return c.kv.Apply(ctx, m.check, setPool(p, version))
	}
	if p.Holders, err = c.readHolders(ctx, p); err != nil {
		return err
	}
	if p.Schema = m.schema(); p.State == Closing {
		p.State = Active
	}
	if err := c.kv.Apply(ctx, m.check, setPool(p, version)); err != nil {
		return err
	}
	return c.clear(ctx, holdersOf(cidr), m)
}

// spread makes what lies below a prefix equal to want, by key, while the guards hold. Several hosts may do it at once.
func (c *core) spread(ctx context.Context, prefix string, want map[string]any, guards ...Op) error {
	entries, err := c.kv.List(ctx, prefix)
	if err != nil {
		return err
	}
	var ops []Op
	there := map[string]string{}
	for _, e := range entries {
		if _, wanted := want[e.Key]; !wanted {
			ops = append(ops, Op{Kind: OpRemove, Key: e.Key})
		}
		there[e.Key] = string(e.Value)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if value := Encode(want[key]); there[key] != string(value) {
			ops = append(ops, Op{Kind: OpPut, Key: key, Value: value})
		}
	}
	for _, chunk := range Chunks(ops, guards...) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what lies below a prefix and means nothing any more, while the layout is the same.
func (c *core) clear(ctx context.Context, prefix string, m mark) error {
	entries, err := c.kv.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, chunk := range Chunks(removals(entries), m.check) {
		if err := c.kv.Apply(ctx, chunk...); err != nil {
			return err
		}
	}
	return nil
}
