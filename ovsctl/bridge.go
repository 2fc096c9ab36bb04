package ovsctl

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/ovn-org/libovsdb/ovsdb"

	"github.com/socketplane/socketplane/ovsctl/vswitch"
)

// BridgeSpec is what the caller decides about our bridge. The rest is fixed: nothing is forwarded
// without flows (fail_mode=secure), no spanning tree, no snooping, no controller, OpenFlow 1.0 to
// 1.4 on the management socket.
type BridgeSpec struct {
	Datapath    string            // DatapathSystem or DatapathNetdev
	ExternalIDs map[string]string // MarkKey is added if it is not there
}

// EnsureBridge makes our bridge, or mends what differs, and returns when ovs-vswitchd serves it. A
// bridge of our name without our mark is ErrForeign. ErrBridge means that the database has it but
// ovs-vswitchd could not make it, such as on a datapath that the kernel lacks.
func (s *Switch) EnsureBridge(ctx context.Context, spec BridgeSpec) error {
	if spec.Datapath != DatapathSystem && spec.Datapath != DatapathNetdev {
		return fmt.Errorf("bridge %s: unknown datapath %q: use %s or %s", s.bridge, spec.Datapath, DatapathSystem, DatapathNetdev)
	}
	spec.ExternalIDs = withMark(spec.ExternalIDs, "bridge")
	cfg, err := s.change(ctx, func(v *view) ([]ovsdb.Operation, error) {
		switch {
		case v.bridge == nil:
			return createBridge(v, s.bridge, spec), nil
		case !marked(v.bridge.ExternalIDs):
			return nil, fmt.Errorf("bridge %s: %w: choose another name, or delete it (ovs-vsctl del-br %s)", s.bridge, ErrForeign, s.bridge)
		}
		return mendBridge(v, spec), nil
	})
	if err != nil {
		return err
	}
	if err := s.follow(ctx, cfg); err != nil {
		return err
	}
	if err := s.served(ctx, spec, cfg); err != nil {
		return err
	}
	if cfg > 0 { // it runs, which may be news
		signal(s.kick)
		_ = s.await(ctx, func() bool { return s.Ready() == nil })
	}
	return s.Ready()
}

// served demands the management socket. Without it ovs-vswitchd has exited, or has not taken up a
// bridge that somebody else made, or could not make it: it follows the database if it runs.
func (s *Switch) served(ctx context.Context, spec BridgeSpec, cfg int) error {
	if _, err := inodeOf(s.MgmtPath()); err == nil {
		return nil
	}
	if cfg == 0 {
		n, err := s.current()
		if err != nil {
			return err
		}
		v := s.viewOf(n)
		if v.root == nil {
			return fmt.Errorf("%w: %s: the database was emptied meanwhile", ErrNoBridge, s.bridge)
		}
		if cfg, err = s.transact(ctx, n, v.touch()); err != nil {
			return err
		}
		if err := s.follow(ctx, cfg); err != nil {
			return err
		}
		if _, err := inodeOf(s.MgmtPath()); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w %s with datapath_type=%s (there is no %s): see the end of ovs-vswitchd.log; the datapath %s needs the kernel module openvswitch",
		ErrBridge, s.bridge, spec.Datapath, s.MgmtPath(), DatapathSystem)
}

// RemoveBridge removes our bridge with all its ports. That it isn't there is no error; without our
// mark it is ErrForeign.
func (s *Switch) RemoveBridge(ctx context.Context) error {
	_, err := s.change(ctx, func(v *view) ([]ovsdb.Operation, error) {
		switch {
		case v.root == nil || v.bridge == nil:
			return nil, nil
		case !marked(v.bridge.ExternalIDs):
			return nil, fmt.Errorf("bridge %s is left alone: %w", s.bridge, ErrForeign)
		}
		return []ovsdb.Operation{
			v.unchanged(),
			refer(vswitch.OpenvSwitchTable, v.root.UUID, "bridges", ovsdb.MutateOperationDelete, v.bridge.UUID),
		}, nil
	})
	return err
}

// Settle waits until ovs-vswitchd has taken up what the database has now. After RemoveBridge its devices are gone then: they would outlive
// an ovs-vswitchd that ends before.
func (s *Switch) Settle(ctx context.Context) error {
	v, err := s.view()
	if err != nil || v.root == nil {
		return err
	}
	return s.follow(ctx, v.root.NextCfg)
}

// follow waits until ovs-vswitchd has taken up the state cfg of the database.
func (s *Switch) follow(ctx context.Context, cfg int) error {
	var lost error
	err := s.await(ctx, func() bool {
		v, err := s.view()
		lost = err
		return err != nil || v.root != nil && v.root.CurCfg >= cfg
	})
	if lost != nil {
		return lost
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for ovs-vswitchd to take up a change of %s: %w", s.bridge, ctx.Err())
	}
	signal(s.kick)
	return s.notRunning("or, after an outage of the database, not yet back: it takes up no changes")
}

// columns are those of the bridge that have one right value.
func columns(spec BridgeSpec) ovsdb.Row {
	return ovsdb.Row{
		"datapath_type":         spec.Datapath,
		"fail_mode":             vswitch.BridgeFailModeSecure,
		"protocols":             toSet(protocols()...),
		"controller":            toSet(),
		"stp_enable":            false,
		"rstp_enable":           false,
		"mcast_snooping_enable": false,
	}
}

// protocols has 1.4 for bundles, and the older ones so that ovs-ofctl works without options.
func protocols() []string {
	return []string{
		vswitch.BridgeProtocolsOpenflow10, vswitch.BridgeProtocolsOpenflow11, vswitch.BridgeProtocolsOpenflow12,
		vswitch.BridgeProtocolsOpenflow13, vswitch.BridgeProtocolsOpenflow14,
	}
}

// otherConfig keeps ovs-vswitchd from adding flows of its own for controllers.
func otherConfig() map[string]string { return map[string]string{"disable-in-band": "true"} }

func createBridge(v *view, name string, spec BridgeSpec) []ovsdb.Operation {
	row := columns(spec)
	row["name"] = name
	row["external_ids"] = toMap(spec.ExternalIDs)
	row["other_config"] = toMap(otherConfig())
	row["ports"] = toRefs("local")
	ops := append(insertLocal(name, spec.ExternalIDs),
		ovsdb.Operation{Op: ovsdb.OperationInsert, Table: vswitch.BridgeTable, UUIDName: "bridge", Row: row})
	if v.root == nil {
		root := initialise()
		root.Row["bridges"] = toRefs("bridge")
		return append(ops, root)
	}
	return append(ops, refer(vswitch.OpenvSwitchTable, v.root.UUID, "bridges", ovsdb.MutateOperationInsert, "bridge"))
}

// initialise makes the root of an empty database, as "ovs-vsctl init" does. There is one such row at
// most, so this conflicts with others who do the same.
func initialise() ovsdb.Operation {
	return ovsdb.Operation{Op: ovsdb.OperationInsert, Table: vswitch.OpenvSwitchTable, Row: ovsdb.Row{"next_cfg": 1}}
}

// insertLocal makes the port that every bridge has, with the bridge's name.
func insertLocal(name string, externalIDs map[string]string) []ovsdb.Operation {
	return []ovsdb.Operation{
		{Op: ovsdb.OperationInsert, Table: vswitch.InterfaceTable, UUIDName: "localif",
			Row: ovsdb.Row{"name": name, "type": "internal", "external_ids": toMap(externalIDs)}},
		{Op: ovsdb.OperationInsert, Table: vswitch.PortTable, UUIDName: "local",
			Row: ovsdb.Row{"name": name, "interfaces": toRefs("localif"), "external_ids": toMap(externalIDs)}},
	}
}

func mendBridge(v *view, spec BridgeSpec) []ovsdb.Operation {
	b, row := v.bridge, ovsdb.Row{}
	right := columns(spec)
	for column, same := range map[string]bool{
		"datapath_type":         datapath(b.DatapathType) == spec.Datapath,
		"fail_mode":             b.FailMode != nil && *b.FailMode == vswitch.BridgeFailModeSecure,
		"protocols":             sameSet(b.Protocols, protocols()),
		"controller":            len(b.Controller) == 0,
		"stp_enable":            !b.STPEnable,
		"rstp_enable":           !b.RSTPEnable,
		"mcast_snooping_enable": !b.McastSnoopingEnable,
	} {
		if !same {
			row[column] = right[column]
		}
	}
	var ops []ovsdb.Operation
	if len(row) > 0 {
		ops = append(ops, ovsdb.Operation{Op: ovsdb.OperationUpdate, Table: vswitch.BridgeTable, Where: is(b.UUID), Row: row})
	}
	if m := mendMap(b.ExternalIDs, spec.ExternalIDs); m != nil {
		ops = append(ops, mutateMap(vswitch.BridgeTable, b.UUID, "external_ids", m))
	}
	if m := mendMap(b.OtherConfig, otherConfig()); m != nil {
		ops = append(ops, mutateMap(vswitch.BridgeTable, b.UUID, "other_config", m))
	}
	if p := v.port(b.Name); p == nil {
		ops = append(ops, insertLocal(b.Name, spec.ExternalIDs)...)
		ops = append(ops, refer(vswitch.BridgeTable, b.UUID, "ports", ovsdb.MutateOperationInsert, "local"))
	}
	if len(ops) > 0 {
		ops = append([]ovsdb.Operation{v.unchanged()}, ops...)
	}
	return ops
}

// mutation of a map: keys that go, and pairs that come.
type mutation struct {
	remove []string
	insert map[string]string
}

// mendMap is what makes the keys of a map that are ours the wanted ones; nil if they are.
func mendMap(have, want map[string]string) *mutation {
	m := mutation{insert: map[string]string{}}
	for k, v := range have {
		if w, ok := want[k]; ok && w != v || !ok && strings.HasPrefix(k, MarkKey) {
			m.remove = append(m.remove, k)
		}
	}
	for k, w := range want {
		if v, ok := have[k]; !ok || v != w {
			m.insert[k] = w
		}
	}
	if len(m.remove) == 0 && len(m.insert) == 0 {
		return nil
	}
	return &m
}

// mutateMap changes single keys: "insert" keeps a key that is there, so such a one is deleted first.
func mutateMap(table, uuid, column string, m *mutation) ovsdb.Operation {
	op := ovsdb.Operation{Op: ovsdb.OperationMutate, Table: table, Where: is(uuid)}
	if len(m.remove) > 0 {
		op.Mutations = append(op.Mutations, *ovsdb.NewMutation(column, ovsdb.MutateOperationDelete, toSet(m.remove...)))
	}
	if len(m.insert) > 0 {
		op.Mutations = append(op.Mutations, *ovsdb.NewMutation(column, ovsdb.MutateOperationInsert, toMap(m.insert)))
	}
	return op
}

func withMark(externalIDs map[string]string, value string) map[string]string {
	out := maps.Clone(externalIDs)
	if out == nil {
		out = map[string]string{}
	}
	if !marked(out) {
		out[MarkKey] = value
	}
	return out
}
