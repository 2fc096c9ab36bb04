package ovsctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ovn-org/libovsdb/ovsdb"

	"github.com/socketplane/socketplane/ovsctl/vswitch"
)

// Port is a port of our bridge as it is wanted.
type Port struct {
	Name        string            // of the port and its one interface, at most 15 bytes for a device
	OFPort      uint32            // the OpenFlow number to ask for, 1 to 65279; 0 leaves it to the switch
	Type        string            // "" is a device of the host, "vxlan" a tunnel
	Options     map[string]string // of the type; all of them are ours
	ExternalIDs map[string]string // of port and interface; MarkKey is added if it is not there
}

// PortStatus is a port as it is in the database, with what ovs-vswitchd made of it.
type PortStatus struct {
	Port                // ExternalIDs may have other people's keys besides ours
	OFPortActual int    // 0 as long as the switch gave none, -1 if it could not make the port
	Error        string // why, in ovs-vswitchd's words
	LinkState    string // "up", "down", or "" if not known
}

// Changes counts ports.
type Changes struct{ Added, Removed, Mended int }

// SyncPorts makes our ports on our bridge the wanted ones: one transaction adds, mends and removes.
// Ports without our mark are left alone; where one has a name that is wanted, the others are done
// all the same and the error wraps ErrForeign. ovs-vswitchd takes the change up afterwards. It looks at all ports of the database.
func (s *Switch) SyncPorts(ctx context.Context, want []Port) (Changes, error) {
	return s.ports(ctx, want, nil, true)
}

// EnsurePorts adds or mends these ports in one transaction, and leaves all others as they are. What SyncPorts says of ports without our
// mark holds. It looks at these ports only.
func (s *Switch) EnsurePorts(ctx context.Context, want ...Port) (Changes, error) {
	return s.ports(ctx, want, nil, false)
}

// EnsurePort adds or mends one port.
func (s *Switch) EnsurePort(ctx context.Context, p Port) error {
	_, err := s.EnsurePorts(ctx, p)
	return err
}

// RemovePorts removes those of the named ports that are ours, in one transaction; those that aren't there are no error. It looks at
// these ports only.
func (s *Switch) RemovePorts(ctx context.Context, names ...string) error {
	_, err := s.ports(ctx, nil, names, false)
	return err
}

// ports brings the wanted ports about, and removes those of the named ones that are ours; with rest, all of ours that are not wanted.
func (s *Switch) ports(ctx context.Context, want []Port, gone []string, rest bool) (Changes, error) {
	var changes Changes
	var foreign error
	if err := check(want, s.bridge); err != nil {
		return changes, err
	}
	_, err := s.change(ctx, func(v *view) ([]ovsdb.Operation, error) {
		changes, foreign = Changes{}, nil
		if v.bridge == nil || v.root == nil {
			if len(want) == 0 {
				return nil, nil
			}
			return nil, fmt.Errorf("%w: %s", ErrNoBridge, s.bridge)
		}
		if !marked(v.bridge.ExternalIDs) {
			return nil, fmt.Errorf("bridge %s is left alone: %w", s.bridge, ErrForeign)
		}
		if rest {
			gone = slices.Collect(maps.Keys(v.whole().ports))
		}
		var ops []ovsdb.Operation
		ops, changes, foreign = planPorts(v, want, gone)
		return ops, nil
	})
	if err != nil {
		return Changes{}, err
	}
	return changes, foreign
}

func check(want []Port, bridge string) error {
	seen := map[string]bool{}
	for _, p := range want {
		switch {
		case p.Name == "" || p.Name == bridge:
			return fmt.Errorf("port %q can't be on bridge %s: give it a name of its own", p.Name, bridge)
		case seen[p.Name]:
			return fmt.Errorf("port %s is wanted twice: give each one name", p.Name)
		case p.OFPort > 0xfeff: // the highest that OVSDB's schema lets one ask for
			return fmt.Errorf("port %s: OpenFlow port %d is reserved: use 1 to 65279", p.Name, p.OFPort)
		}
		seen[p.Name] = true
	}
	return nil
}

func planPorts(v *view, want []Port, gone []string) (ops []ovsdb.Operation, changes Changes, foreign error) {
	wanted := map[string]bool{}
	var added, removed []string
	for i, p := range want {
		wanted[p.Name] = true
		p.ExternalIDs = withMark(p.ExternalIDs, "port")
		have := v.port(p.Name)
		switch {
		case have == nil:
			name := "p" + strconv.Itoa(i)
			added = append(added, name)
			ops = append(ops, insertPort(name, p)...)
			changes.Added++
		case !v.ours(have):
			foreign = errors.Join(foreign, fmt.Errorf("port %s: %w, or not on %s: remove it (ovs-vsctl del-port %s)",
				p.Name, ErrForeign, v.bridge.Name, p.Name))
		default:
			mend := mendPort(v, have, p, "i"+strconv.Itoa(i))
			if len(mend) > 0 {
				changes.Mended++
				ops = append(ops, still(have))
			}
			ops = append(ops, mend...)
		}
	}
	for _, name := range gone {
		if wanted[name] {
			continue
		}
		wanted[name] = true // named twice
		if p := v.port(name); p != nil && v.ours(p) {
			removed = append(removed, p.UUID)
			changes.Removed++
		}
	}
	// The rows of removed ports go by themselves when nothing refers to them.
	if len(removed) > 0 {
		ops = append(ops, refer(vswitch.BridgeTable, v.bridge.UUID, "ports", ovsdb.MutateOperationDelete, removed...))
	}
	if len(added) > 0 {
		ops = append(ops, refer(vswitch.BridgeTable, v.bridge.UUID, "ports", ovsdb.MutateOperationInsert, added...))
	}
	if len(ops) > 0 {
		ops = append([]ovsdb.Operation{v.unchanged()}, ops...)
	}
	return ops, changes, foreign
}

func insertPort(name string, p Port) []ovsdb.Operation {
	return []ovsdb.Operation{insertInterface(name+"i", p), {
		Op: ovsdb.OperationInsert, Table: vswitch.PortTable, UUIDName: name,
		Row: ovsdb.Row{"name": p.Name, "interfaces": toRefs(name + "i"), "external_ids": toMap(p.ExternalIDs)},
	}}
}

func insertInterface(name string, p Port) ovsdb.Operation {
	return ovsdb.Operation{Op: ovsdb.OperationInsert, Table: vswitch.InterfaceTable, UUIDName: name, Row: ovsdb.Row{
		"name": p.Name, "type": p.Type, "options": toMap(p.Options),
		"ofport_request": request(p), "external_ids": toMap(p.ExternalIDs),
	}}
}

func request(p Port) ovsdb.OvsSet {
	if p.OFPort == 0 {
		return toSet()
	}
	return ovsdb.OvsSet{GoSet: []any{p.OFPort}}
}

// still makes the transaction fail if the port is gone: who mended it would mend nothing.
func still(p *vswitch.Port) ovsdb.Operation {
	now := 0
	return ovsdb.Operation{
		Op: ovsdb.OperationWait, Table: vswitch.PortTable, Timeout: &now, Where: is(p.UUID),
		Columns: []string{"name"}, Until: string(ovsdb.WaitConditionEqual), Rows: []ovsdb.Row{{"name": p.Name}},
	}
}

func mendPort(v *view, have *vswitch.Port, p Port, name string) (ops []ovsdb.Operation) {
	i := v.iface(have)
	switch {
	case i == nil:
		ops = append(ops, insertInterface(name, p), ovsdb.Operation{Op: ovsdb.OperationUpdate, Table: vswitch.PortTable,
			Where: is(have.UUID), Row: ovsdb.Row{"interfaces": toRefs(name)}})
	case len(have.Interfaces) > 1:
		ops = append(ops, ovsdb.Operation{Op: ovsdb.OperationUpdate, Table: vswitch.PortTable,
			Where: is(have.UUID), Row: ovsdb.Row{"interfaces": toRefs(i.UUID)}})
	}
	if m := mendMap(have.ExternalIDs, p.ExternalIDs); m != nil {
		ops = append(ops, mutateMap(vswitch.PortTable, have.UUID, "external_ids", m))
	}
	if i == nil {
		return ops
	}
	row := ovsdb.Row{}
	if i.Type != p.Type {
		row["type"] = p.Type
	}
	if !maps.Equal(i.Options, p.Options) {
		row["options"] = toMap(p.Options)
	}
	if number(i.OfportRequest) != int(p.OFPort) {
		row["ofport_request"] = request(p)
	}
	if len(row) > 0 {
		ops = append(ops, ovsdb.Operation{Op: ovsdb.OperationUpdate, Table: vswitch.InterfaceTable, Where: is(i.UUID), Row: row})
	}
	if m := mendMap(i.ExternalIDs, p.ExternalIDs); m != nil {
		ops = append(ops, mutateMap(vswitch.InterfaceTable, i.UUID, "external_ids", m))
	}
	return ops
}

// Ports returns our ports on our bridge, by name; none without a connection.
func (s *Switch) Ports() []PortStatus {
	v, err := s.view()
	if err != nil || v.bridge == nil {
		return nil
	}
	var out []PortStatus
	for _, p := range v.whole().ports {
		if v.ours(p) {
			out = append(out, v.status(p))
		}
	}
	slices.SortFunc(out, func(a, b PortStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Port returns one port of ours on our bridge; false if there is none, or no connection.
func (s *Switch) Port(name string) (PortStatus, bool) {
	v, err := s.view()
	if err != nil || v.bridge == nil {
		return PortStatus{}, false
	}
	p := v.port(name)
	if p == nil || !v.ours(p) {
		return PortStatus{}, false
	}
	return v.status(p), true
}

// ForeignPorts returns the names of the ports on our bridge that others made, sorted.
func (s *Switch) ForeignPorts() ([]string, error) {
	v, err := s.view()
	if err != nil || v.bridge == nil {
		return nil, err
	}
	var names []string
	for _, p := range v.whole().ports {
		if v.onBridge(p) && p.Name != v.bridge.Name && !v.ours(p) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// BridgeRow returns our bridge as the database has it, nil if there is none. It is not to be changed.
func (s *Switch) BridgeRow() (*vswitch.Bridge, error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	return v.bridge, nil
}

func (v *view) status(p *vswitch.Port) PortStatus {
	st := PortStatus{Port: Port{Name: p.Name, ExternalIDs: maps.Clone(p.ExternalIDs)}}
	i := v.iface(p)
	if i == nil {
		return st
	}
	st.OFPort, st.Type, st.Options = uint32(number(i.OfportRequest)), i.Type, maps.Clone(i.Options)
	st.OFPortActual = number(i.Ofport)
	if i.Error != nil {
		st.Error = *i.Error
	}
	if i.LinkState != nil {
		st.LinkState = *i.LinkState
	}
	return st
}

// WaitPort waits until ovs-vswitchd has taken up a port of ours as it is in the database now. Its
// error wraps ErrPort when the switch could not make the port, or gave it another OpenFlow number
// than the one asked for because that is taken.
func (s *Switch) WaitPort(ctx context.Context, name string) (PortStatus, error) {
	v, err := s.view()
	if err != nil {
		return PortStatus{}, err
	}
	var p *vswitch.Port
	if v.root != nil && v.bridge != nil {
		p = v.port(name)
	}
	if p == nil || !v.ours(p) {
		return PortStatus{}, fmt.Errorf("port %s of bridge %s: not there: add it first", name, s.bridge)
	}
	if err := s.follow(ctx, v.root.NextCfg); err != nil {
		return v.status(p), fmt.Errorf("wait for port %s: %w", name, err)
	}
	if v, err = s.view(); err != nil {
		return PortStatus{}, err
	}
	if p = v.port(name); p == nil {
		return PortStatus{}, fmt.Errorf("%w %s: it was removed meanwhile", ErrPort, name)
	}
	st := v.status(p)
	switch {
	case st.Error != "":
		return st, fmt.Errorf("%w %s: %s: see that the device exists and is in no other bridge", ErrPort, name, st.Error)
	case st.OFPortActual <= 0:
		return st, fmt.Errorf("%w %s: no reason given: see the end of ovs-vswitchd.log", ErrPort, name)
	case st.OFPort != 0 && st.OFPortActual != int(st.OFPort):
		return st, fmt.Errorf("%w %s: OpenFlow port %d is taken, it got %d: ask for another", ErrPort, name, st.OFPort, st.OFPortActual)
	}
	return st, nil
}

func number(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}
