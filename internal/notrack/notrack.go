// Package notrack keeps the kernel's connection tracking (conntrack) away from the tunnels' packets.
//
// The source port of a VXLAN packet is a hash of what is inside, so each connection of containers would leave one or two more
// entries in the table, none of which ever sees an answer: the other host's packets have source ports of their own. For the same
// reason no firewall rule that accepts established connections has ever matched a tunnel's packets, and a rule that accepts the
// port goes on to match. A rule that accepts the port only for new connections does not: then the operator turns this off.
//
// It owns one nftables table of the host, and is the only user of google/nftables. It knows neither links nor the switch.
package notrack

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is the name of our table, of the family inet.
const Table = "socketplane-tunnels"

// ErrUnsupported says that the kernel can't do it: it lacks nf_tables, its family inet or the statement notrack.
var ErrUnsupported = errors.New("the kernel tracks the tunnels' packets, as it lacks nf_tables or its parts nf_tables_inet and nft_ct")

// ErrForeign says that a table of our name is another program's, so that it was left alone.
var ErrForeign = fmt.Errorf("the nftables table inet %s is not SocketPlane's: rename or delete it if nothing needs it (nft list table inet %s)", Table, Table)

// Ensure makes the kernel not track UDP packets that come to addr at port, or that this host sends from addr to port, in the
// network namespace of the calling thread. What is right already is left alone.
func Ensure(addr netip.Addr, port uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", failed(err))
	}
	want := mark(addr, port)
	if ok, err := is(conn, want); err != nil || ok {
		return failed(err)
	}
	table, err := find(conn)
	if err == nil && table != nil {
		err = owned(conn, table)
	}
	if err != nil {
		return failed(err)
	}
	table = &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	// All in one transaction: the table is added first, so that there is one to delete.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, c := range chains() {
		chain := conn.AddChain(&nftables.Chain{
			Name: c.name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: c.hook, Priority: nftables.ChainPriorityRaw,
		})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule(addr.Unmap(), port, c.source), UserData: want})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write nf_tables: %w", failed(err))
	}
	return nil
}

// Right says whether all is there that Ensure makes.
func Right(addr netip.Addr, port uint16) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nf_tables: %w", failed(err))
	}
	ok, err := is(conn, mark(addr, port))
	return ok, failed(err)
}

// Present says whether our table is there.
func Present() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nf_tables: %w", failed(err))
	}
	table, err := find(conn)
	if err == nil && table != nil {
		err = owned(conn, table)
	}
	if errors.Is(err, ErrForeign) {
		return false, nil
	}
	return table != nil && err == nil, failed(err)
}

// Remove removes our table; that there is none is fine.
func Remove() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nf_tables: %w", failed(err))
	}
	table, err := find(conn)
	if err != nil || table == nil {
		return failed(err)
	}
	if err := owned(conn, table); errors.Is(err, ErrForeign) {
		return nil
	} else if err != nil {
		return failed(err)
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write nf_tables: %w", failed(err))
	}
	return nil
}

// chain is one of our two; source says that our address is the packet's source there.
type chain struct {
	name   string
	hook   *nftables.ChainHook
	source bool
}

func chains() []chain {
	return []chain{{"prerouting", nftables.ChainHookPrerouting, false}, {"output", nftables.ChainHookOutput, true}}
}

// ownMark begins what is kept with each of our rules.
const ownMark = "socketplane "

// mark is kept with each rule, and says all that it depends on.
func mark(addr netip.Addr, port uint16) []byte {
	return fmt.Appendf(nil, "%s1 %s %d", ownMark, addr.Unmap(), port)
}

// owned is nil if the table is ours: one of its rules has our mark, or it has no rules and no chain but ours, as after a flush.
func owned(conn *nftables.Conn, table *nftables.Table) error {
	all, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return err
	}
	foreign := false
	for _, c := range all {
		if c.Table.Name != table.Name {
			continue
		}
		rules, err := conn.GetRules(table, c)
		if err != nil && !errors.Is(err, unix.ENOENT) { // else it has just gone
			return err
		}
		if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return bytes.HasPrefix(r.UserData, []byte(ownMark)) }) {
			return nil
		}
		foreign = foreign || len(rules) > 0 || !slices.ContainsFunc(chains(), func(own chain) bool { return own.name == c.Name })
	}
	if foreign {
		return ErrForeign
	}
	return nil
}

func find(conn *nftables.Conn) (*nftables.Table, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == Table })
	if err != nil || i < 0 {
		return nil, err
	}
	return tables[i], nil
}

// is says whether the table has the wanted rules and no others.
func is(conn *nftables.Conn, want []byte) (bool, error) {
	table, err := find(conn)
	if err != nil || table == nil {
		return false, err
	}
	for _, c := range chains() {
		rules, err := conn.GetRules(table, &nftables.Chain{Name: c.name, Table: table})
		if errors.Is(err, unix.ENOENT) {
			return false, nil // the chain is not there
		}
		if err != nil || len(rules) != 1 || !bytes.Equal(rules[0].UserData, want) {
			return false, err
		}
	}
	return true, nil
}

// rule is: meta nfproto FAMILY, ADDRESS is addr, UDP, destination port, notrack.
func rule(addr netip.Addr, port uint16, source bool) []expr.Any {
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4) // where an IPv4 header has its destination
	if addr.Is6() {
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
	}
	if source {
		offset -= size
	}
	compare := func(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, compare([]byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}, compare(addr.AsSlice()),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, compare([]byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, compare(binaryutil.BigEndian.PutUint16(port)),
		&expr.Notrack{},
	}
}

// failed tells what the kernel lacks from other failures.
func failed(err error) error {
	for _, lacks := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOENT} {
		if errors.Is(err, lacks) {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return err
}
