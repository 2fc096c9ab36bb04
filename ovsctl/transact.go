package ovsctl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ovn-org/libovsdb/cache"
	"github.com/ovn-org/libovsdb/ovsdb"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/ovsctl/vswitch"
)

// view is the database at one moment, as far as we look at it: the root and our bridge, and single ports when they are asked for. After
// whole it has all of them. The rows belong to the cache and are not to be changed.
type view struct {
	root   *vswitch.OpenvSwitch // nil in a database that is empty
	bridge *vswitch.Bridge      // the one with our name; nil if there is none

	cache  *cache.TableCache
	counts *counters
	all    *everything // after whole
}

// everything is all ports of the database.
type everything struct {
	ports      map[string]*vswitch.Port
	interfaces map[string]*vswitch.Interface // by UUID
	onBridge   map[string]bool               // UUIDs of our bridge's ports
}

// view is the present state. The error wraps ErrNotConnected.
func (s *Switch) view() (*view, error) {
	n, err := s.current()
	if err != nil {
		return nil, err
	}
	return s.viewOf(n), nil
}

func (s *Switch) current() (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil, s.notConnected()
	}
	return s.session, nil
}

func (s *Switch) viewOf(n *session) *view {
	v := &view{cache: n.cache, counts: &s.counts}
	for _, row := range n.cache.Table(vswitch.OpenvSwitchTable).RowsShallow() {
		v.root = row.(*vswitch.OpenvSwitch)
	}
	for _, row := range n.cache.Table(vswitch.BridgeTable).RowsShallow() {
		if b := row.(*vswitch.Bridge); b.Name == s.bridge {
			v.bridge = b
		}
	}
	return v
}

// whole reads all ports.
func (v *view) whole() *everything {
	if v.all != nil {
		return v.all
	}
	v.all = &everything{ports: map[string]*vswitch.Port{}, interfaces: map[string]*vswitch.Interface{}, onBridge: map[string]bool{}}
	if v.bridge != nil {
		for _, uuid := range v.bridge.Ports {
			v.all.onBridge[uuid] = true
		}
	}
	for _, row := range v.cache.Table(vswitch.PortTable).RowsShallow() {
		p := row.(*vswitch.Port)
		v.all.ports[p.Name] = p
	}
	for uuid, row := range v.cache.Table(vswitch.InterfaceTable).RowsShallow() {
		v.all.interfaces[uuid] = row.(*vswitch.Interface)
	}
	v.counts.rows.Add(uint64(len(v.all.ports) + len(v.all.interfaces)))
	return v.all
}

// port finds a port by its name, of any bridge; nil if there is none.
func (v *view) port(name string) *vswitch.Port {
	if v.all != nil {
		return v.all.ports[name]
	}
	v.counts.rows.Add(1)
	_, row, err := v.cache.Table(vswitch.PortTable).RowByModel(&vswitch.Port{Name: name})
	if p, ok := row.(*vswitch.Port); ok && err == nil {
		return p
	}
	return nil
}

// onBridge says whether the port is one of our bridge's.
func (v *view) onBridge(p *vswitch.Port) bool {
	switch {
	case v.bridge == nil:
		return false
	case v.all != nil:
		return v.all.onBridge[p.UUID]
	}
	return slices.Contains(v.bridge.Ports, p.UUID)
}

// ours is the port of that name if it is on our bridge with our mark; the bridge's own port is none.
func (v *view) ours(p *vswitch.Port) bool {
	return marked(p.ExternalIDs) && v.onBridge(p) && p.Name != v.bridge.Name
}

// iface is the port's own interface, nil if it has none of its name (a bond that someone made).
func (v *view) iface(p *vswitch.Port) *vswitch.Interface {
	for _, uuid := range p.Interfaces {
		if i := v.interfaceOf(uuid); i != nil && i.Name == p.Name {
			return i
		}
	}
	return nil
}

func (v *view) interfaceOf(uuid string) *vswitch.Interface {
	if v.all != nil {
		return v.all.interfaces[uuid]
	}
	v.counts.rows.Add(1)
	i, _ := v.cache.Table(vswitch.InterfaceTable).Row(uuid).(*vswitch.Interface)
	return i
}

// touch makes ovs-vswitchd look at the database and set cur_cfg to what next_cfg has become.
func (v *view) touch() ovsdb.Operation {
	return ovsdb.Operation{
		Op: ovsdb.OperationMutate, Table: vswitch.OpenvSwitchTable, Where: is(v.root.UUID),
		Mutations: []ovsdb.Mutation{*ovsdb.NewMutation("next_cfg", ovsdb.MutateOperationAdd, 1)},
	}
}

// unchanged makes the transaction fail if the bridge is gone or no longer ours.
func (v *view) unchanged() ovsdb.Operation {
	now := 0
	mark := map[string]string{MarkKey: v.bridge.ExternalIDs[MarkKey]}
	return ovsdb.Operation{
		Op: ovsdb.OperationWait, Table: vswitch.BridgeTable, Timeout: &now,
		Where:   append(is(v.bridge.UUID), ovsdb.NewCondition("external_ids", ovsdb.ConditionIncludes, toMap(mark))),
		Columns: []string{"name"}, Until: string(ovsdb.WaitConditionEqual), Rows: []ovsdb.Row{{"name": v.bridge.Name}},
	}
}

// errConflict is wrapped by the error of a transaction that another writer was faster than.
var errConflict = errors.New("the database changed meanwhile")

// change lets plan compute operations from the present state and sends them, as often as they
// conflict with other writers. No operations is success. It returns the next_cfg that ovs-vswitchd
// will have taken up when cur_cfg is no less; then our copy of the database has the change too.
func (s *Switch) change(ctx context.Context, plan func(*view) ([]ovsdb.Operation, error)) (cfg int, err error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	if err := s.writing.Take(ctx); err != nil {
		return 0, fmt.Errorf("another change of %s is under way: %w", s.bridge, err)
	}
	defer s.writing.Release()
	for range attempts {
		var n *session
		if n, err = s.current(); err != nil {
			return 0, err
		}
		s.mu.Lock()
		moved := s.moved // before we look: what we don't see yet will tell
		s.mu.Unlock()
		v := s.viewOf(n)
		ops, perr := plan(v)
		if perr != nil || len(ops) == 0 {
			return 0, perr
		}
		if v.root != nil {
			ops = append(ops, v.touch())
		}
		if cfg, err = s.transact(ctx, n, ops...); err == nil {
			return cfg, s.await(ctx, func() bool {
				v, err := s.view()
				return err != nil || v.root != nil && v.root.NextCfg >= cfg
			})
		}
		if !errors.Is(err, errConflict) {
			return 0, err
		}
		select { // the other's change is on its way to our copy
		case <-moved:
		case <-ctx.Done():
			return 0, err
		}
	}
	return 0, err
}

// transact sends operations as one transaction and returns next_cfg after it.
func (s *Switch) transact(ctx context.Context, n *session, ops ...ovsdb.Operation) (int, error) {
	ops = append(slices.Clone(ops), ovsdb.Operation{Op: ovsdb.OperationSelect, Table: vswitch.OpenvSwitchTable, Columns: []string{"next_cfg"}})
	type answer struct {
		results []ovsdb.OperationResult
		err     error
	}
	answers := make(chan answer, 1)
	s.counts.transactions.Add(1)
	s.counts.operations.Add(uint64(len(ops)))
	crashpoint.Hit("ovsdb: transact")
	go func() { // a stopped server with full buffers takes no requests, and the library then heeds no context
		results, err := n.client.Transact(ctx, ops...)
		answers <- answer{results, err}
	}()
	var a answer
	select {
	case a = <-answers:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	crashpoint.Hit("ovsdb: transacted")
	if a.err != nil {
		return 0, fmt.Errorf("%w at %s: transaction: %w: see whether ovsdb-server runs (systemctl status openvswitch-switch), or openvswitch on RPM-based hosts",
			ErrNotConnected, s.endpoint, a.err)
	}
	return outcome(a.results, len(ops))
}

// outcome finds the first error. A failed commit adds a result to those of the operations.
func outcome(results []ovsdb.OperationResult, ops int) (int, error) {
	for _, r := range results {
		switch r.Error {
		case "":
		case "constraint violation", "referential integrity violation", "timed out":
			return 0, fmt.Errorf("%w: %s: %s", errConflict, r.Error, r.Details)
		default:
			return 0, fmt.Errorf("ovsdb-server refused a transaction: %s: %s", r.Error, r.Details)
		}
	}
	if len(results) < ops {
		return 0, fmt.Errorf("ovsdb-server answered %d of %d operations", len(results), ops)
	}
	for _, row := range results[ops-1].Rows {
		if cfg, ok := row["next_cfg"].(float64); ok {
			return int(cfg), nil
		}
	}
	return 0, nil
}

func is(uuid string) []ovsdb.Condition {
	return []ovsdb.Condition{ovsdb.NewCondition("_uuid", ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: uuid})}
}

func toMap(m map[string]string) ovsdb.OvsMap {
	out := ovsdb.OvsMap{GoMap: map[any]any{}}
	for k, v := range m {
		out.GoMap[k] = v
	}
	return out
}

func toSet(values ...string) ovsdb.OvsSet {
	out := ovsdb.OvsSet{GoSet: []any{}}
	for _, v := range values {
		out.GoSet = append(out.GoSet, v)
	}
	return out
}

func toRefs(uuids ...string) ovsdb.OvsSet {
	out := ovsdb.OvsSet{GoSet: []any{}}
	for _, u := range uuids {
		out.GoSet = append(out.GoSet, ovsdb.UUID{GoUUID: u})
	}
	return out
}

// refer adds to a set of references or takes from it, and leaves what others put there.
func refer(table, uuid, column string, mutator ovsdb.Mutator, uuids ...string) ovsdb.Operation {
	return ovsdb.Operation{Op: ovsdb.OperationMutate, Table: table, Where: is(uuid),
		Mutations: []ovsdb.Mutation{*ovsdb.NewMutation(column, mutator, toRefs(uuids...))}}
}
