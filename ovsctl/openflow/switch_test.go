package openflow

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
)

const bridge = "br0"

// startSwitch is a switch with one bridge, and a connection to it.
func startSwitch(t testing.TB) (*ovs.Switch, *Conn) {
	t.Helper()
	sw := ovs.Start(t)
	sw.AddBridge(bridge)
	return sw, connect(t, sw)
}

func connect(t testing.TB, sw *ovs.Switch) *Conn {
	t.Helper()
	c, err := Dial(deadline(t), sw.Mgmt(bridge))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func apply(t testing.TB, c *Conn, change Change) {
	t.Helper()
	if err := c.Apply(deadline(t), change); err != nil {
		t.Fatal(err)
	}
}

func dump(t testing.TB, c *Conn, cookie, mask uint64) []Flow {
	t.Helper()
	flows, err := c.Dump(deadline(t), cookie, mask)
	if err != nil {
		t.Fatal(err)
	}
	return flows
}

func texts(flows []Flow) []string {
	out := make([]string, 0, len(flows))
	for _, f := range flows {
		out = append(out, f.String())
	}
	slices.Sort(out)
	return out
}

var (
	mac1 = [6]byte{0x02, 0x42, 0, 0, 0, 1}
	mac2 = [6]byte{0x02, 0x42, 0, 0, 0, 2}
	ip4  = netip.MustParseAddr("10.1.2.3")
	ip6  = netip.MustParseAddr("fd00::1:2")
)

func match(fields ...Field) Match { return fields }

func arp(fields ...Field) Match { return append(match(U16(EthType, 0x0806)), fields...) }

func ipv6(fields ...Field) Match { return append(match(U16(EthType, 0x86dd)), fields...) }

func nd(icmpType uint8, fields ...Field) Match {
	return append(ipv6(U8(IPProto, 58), U8(ICMPv6Type, icmpType), U8(ICMPv6Code, 0)), fields...)
}

func udp(fields ...Field) Match {
	return append(match(U16(EthType, 0x0800), U8(IPProto, 17)), fields...)
}

func masked(f Field, mask ...byte) Field {
	f.Mask = mask
	return f
}

func set(f Field) []Action { return []Action{SetField{f}} }

// scattered is the case that ovs-ofctl can't send as it is: it makes two actions
// of a mask with gaps.
const scattered = "mask with gaps"

// flowCases has every field in a match, every field that may be set, and every
// action, with what ovs-ofctl dump-flows prints of it: the judge of the encoding.
var flowCases = []struct {
	name    string
	match   Match
	actions []Action
	goTo    uint8
	want    string
}{
	{"nothing", nil, nil, 0, "priority=N actions=drop"},
	{"goto", nil, nil, 7, "priority=N actions=goto_table:7"},
	{"in_port", match(U32(InPort, 3)), []Action{Output{4}}, 0, "priority=N,in_port=3 actions=output:4"},
	{"in_port local", match(U32(InPort, 0xfffffffe)), []Action{Output{0xfffffffe}}, 0, "priority=N,in_port=LOCAL actions=LOCAL"},
	{"to in_port", nil, []Action{Output{PortIn}}, 0, "priority=N actions=IN_PORT"},
	{"resubmit", nil, []Action{Resubmit{70}, Resubmit{71}}, 0, "priority=N actions=resubmit(,70),resubmit(,71)"},
	{"eth_dst", match(MAC(EthDst, mac1)), set(MAC(EthDst, mac2)), 0, "priority=N,dl_dst=02:42:00:00:00:01 actions=set_field:02:42:00:00:00:02->eth_dst"},
	{"eth_src", match(MAC(EthSrc, mac1)), set(MAC(EthSrc, mac2)), 0, "priority=N,dl_src=02:42:00:00:00:01 actions=set_field:02:42:00:00:00:02->eth_src"},
	{"multicast", match(MaskedMAC(EthDst, [6]byte{1}, [6]byte{1})), nil, 0, "priority=N,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=drop"},
	{"eth_type", match(U16(EthType, 0x88cc)), nil, 0, "priority=N,dl_type=0x88cc actions=drop"},
	{"untagged", match(U16(VLANTCI, 0)), nil, 0, "priority=N,vlan_tci=0x0000/0x1fff actions=drop"},
	{"tagged", match(masked(U16(VLANTCI, 0x1000), 0x10, 0)), nil, 0, "priority=N,vlan_tci=0x1000/0x1000 actions=drop"},
	{"tag", match(masked(U16(VLANTCI, 0x1005), 0x1f, 0xff)), set(U16(VLANTCI, 0x3006)), 0, "priority=N,dl_vlan=5 actions=set_field:0x3006->vlan_tci"},
	{"tag and priority", match(U16(VLANTCI, 0x7005)), nil, 0, "priority=N,dl_vlan=5,dl_vlan_pcp=3 actions=drop"},
	{"ipv4", match(U16(EthType, 0x0800), U8(IPProto, 6), Addr(IPv4Src, ip4), masked(Addr(IPv4Dst, ip4), 255, 255, 255, 0)),
		[]Action{SetField{Addr(IPv4Src, ip4)}, SetField{Addr(IPv4Dst, ip4)}}, 0,
		"priority=N,tcp,nw_src=10.1.2.3,nw_dst=10.1.2.0/24 actions=set_field:10.1.2.3->ip_src,set_field:10.1.2.3->ip_dst"},
	{"ipv4 odd mask", match(U16(EthType, 0x0800), masked(Addr(IPv4Dst, ip4), 255, 0, 255, 0)), nil, 0, "priority=N,ip,nw_dst=10.0.2.0/255.0.255.0 actions=drop"},
	{"arp", arp(U16(ARPOp, 1), Addr(ARPSPA, ip4), Addr(ARPTPA, ip4), MAC(ARPSHA, mac1), MAC(ARPTHA, mac2)), []Action{
		SetField{U16(ARPOp, 2)}, SetField{Addr(ARPSPA, ip4)}, SetField{Addr(ARPTPA, ip4)}, SetField{MAC(ARPSHA, mac1)}, SetField{MAC(ARPTHA, mac2)},
	}, 0, "priority=N,arp,arp_spa=10.1.2.3,arp_tpa=10.1.2.3,arp_op=1,arp_sha=02:42:00:00:00:01,arp_tha=02:42:00:00:00:02 actions=" +
		"set_field:2->arp_op,set_field:10.1.2.3->arp_spa,set_field:10.1.2.3->arp_tpa,set_field:02:42:00:00:00:01->arp_sha,set_field:02:42:00:00:00:02->arp_tha"},
	{"ipv6", ipv6(Addr(IPv6Src, ip6), masked(Addr(IPv6Dst, ip6), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)),
		[]Action{SetField{Addr(IPv6Src, ip6)}, SetField{Addr(IPv6Dst, ip6)}}, 0,
		"priority=N,ipv6,ipv6_src=fd00::1:2,ipv6_dst=fd00::/64 actions=set_field:fd00::1:2->ipv6_src,set_field:fd00::1:2->ipv6_dst"},
	{"neighbour solicitation", nd(135, Addr(NDTarget, ip6), MAC(NDSLL, mac1)), []Action{
		SetField{U8(ICMPv6Type, 136)}, SetField{U8(ICMPv6Code, 0)}, SetField{Addr(NDTarget, ip6)}, SetField{MAC(NDSLL, mac2)},
	}, 0, "priority=N,icmp6,icmp_type=135,icmp_code=0,nd_target=fd00::1:2,nd_sll=02:42:00:00:00:01 actions=" +
		"set_field:136->icmpv6_type,set_field:0->icmpv6_code,set_field:fd00::1:2->nd_target,set_field:02:42:00:00:00:02->nd_sll"},
	{"neighbour advertisement", nd(136, MAC(NDTLL, mac1)), set(MAC(NDTLL, mac2)), 0,
		"priority=N,icmp6,icmp_type=136,icmp_code=0,nd_tll=02:42:00:00:00:01 actions=set_field:02:42:00:00:00:02->nd_tll"},
	{"neighbour extensions", nd(135, U32(NDReserved, 0x60000000), U8(NDOptionsType, 1)),
		[]Action{SetField{U32(NDReserved, 0x60000000)}, SetField{U8(NDOptionsType, 2)}}, 0,
		"priority=N,icmp6,icmp_type=135,icmp_code=0,nd_reserved=1610612736,nd_options_type=1 actions=set_field:1610612736->nd_reserved,set_field:2->nd_options_type"},
	{"udp", udp(U16(UDPSrc, 68), U16(UDPDst, 67)), []Action{SetField{U16(UDPSrc, 1)}, SetField{U16(UDPDst, 2)}}, 0,
		"priority=N,udp,tp_src=68,tp_dst=67 actions=set_field:1->udp_src,set_field:2->udp_dst"},
	{"udp mask", udp(masked(U16(UDPDst, 0x1200), 0xff, 0)), nil, 0, "priority=N,udp,tp_dst=0x1200/0xff00 actions=drop"},
	{"tun_id", match(U64(TunnelID, 0x123456)), set(U64(TunnelID, 7)), 0, "priority=N,tun_id=0x123456 actions=set_field:0x7->tun_id"},
	{"tunnel over ipv4", match(Addr(TunIPv4Src, ip4), Addr(TunIPv4Dst, ip4)),
		[]Action{SetField{Addr(TunIPv4Src, ip4)}, SetField{Addr(TunIPv4Dst, ip4)}}, 0,
		"priority=N,tun_src=10.1.2.3,tun_dst=10.1.2.3 actions=set_field:10.1.2.3->tun_src,set_field:10.1.2.3->tun_dst"},
	{"tunnel over ipv6", match(Addr(TunIPv6Src, ip6), Addr(TunIPv6Dst, ip6)),
		[]Action{SetField{Addr(TunIPv6Src, ip6)}, SetField{Addr(TunIPv6Dst, ip6)}}, 0,
		"priority=N,tun_ipv6_src=fd00::1:2,tun_ipv6_dst=fd00::1:2 actions=set_field:fd00::1:2->tun_ipv6_src,set_field:fd00::1:2->tun_ipv6_dst"},
	{"registers", match(U32(Reg0, 1), U32(Reg1, 2), U32(Reg2, 3), masked(U32(Reg3, 0xabcd), 0, 0, 0xff, 0xff)),
		[]Action{SetField{U32(Reg0, 5)}, SetField{U32(Reg1, 0)}, SetField{U32(Reg2, 0xffffffff)}, SetField{masked(U32(Reg3, 0xa0), 0, 0, 0, 0xf0)}}, 2,
		"priority=N,reg0=0x1,reg1=0x2,reg2=0x3,reg3=0xabcd/0xffff actions=set_field:0x5->reg0,set_field:0->reg1,set_field:0xffffffff->reg2,set_field:0xa0/0xf0->reg3,goto_table:2"},
	{scattered, nil, set(masked(U32(Reg3, 0xa0b), 0, 0, 0x0f, 0x0f)), 0, "priority=N actions=set_field:0xa0b/0xf0f->reg3"},
	{"masked set", nil, set(MaskedMAC(EthDst, [6]byte{0, 0, 0, 0, 0, 0}, [6]byte{1})), 0, "priority=N actions=set_field:00:00:00:00:00:00/01:00:00:00:00:00->eth_dst"},
	{"move", arp(), []Action{Move{EthSrc, EthDst}, Move{ARPSPA, ARPTPA}, Move{ARPSHA, ARPTHA}, Move{InPort, Reg0}, Move{Reg1, Reg2}}, 0,
		"priority=N,arp actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]," +
			"move:OXM_OF_IN_PORT[]->NXM_NX_REG0[],move:NXM_NX_REG1[]->NXM_NX_REG2[]"},
	{"move ipv6", nd(135), []Action{Move{NDTarget, IPv6Src}, Move{IPv6Src, IPv6Dst}, Move{NDSLL, EthDst}, Move{TunIPv6Src, TunIPv6Dst}, Move{TunIPv4Src, TunIPv4Dst}}, 0,
		"priority=N,icmp6,icmp_type=135,icmp_code=0 actions=move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[],move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]," +
			"move:NXM_NX_ND_SLL[]->NXM_OF_ETH_DST[],move:NXM_NX_TUN_IPV6_SRC[]->NXM_NX_TUN_IPV6_DST[],move:NXM_NX_TUN_IPV4_SRC[]->NXM_NX_TUN_IPV4_DST[]"},
}

// caseFlows makes one flow of each case; the priority tells them apart.
func caseFlows() []Flow {
	flows := make([]Flow, 0, len(flowCases))
	for i, c := range flowCases {
		flows = append(flows, Flow{Table: 1, Priority: uint16(1000 + i), Cookie: 0x5350000000000001, Match: c.match, Actions: c.actions, Goto: c.goTo})
	}
	return flows
}

func TestEveryFieldAndActionOnARealSwitch(t *testing.T) {
	sw, c := startSwitch(t)
	flows := caseFlows()
	apply(t, c, Change{Add: flows})

	byPriority := map[uint16]Flow{}
	for _, f := range dump(t, c, 0, 0) {
		byPriority[f.Priority] = f
	}
	printed := sw.Flows(bridge)
	for i, tc := range flowCases {
		t.Run(tc.name, func(t *testing.T) {
			sent, got := flows[i], byPriority[flows[i].Priority]
			if !sent.Equal(got) {
				t.Errorf("sent %v\n got %v", sent, got)
			}
			if sent.Key() != got.Key() {
				t.Errorf("sent key %v\n got key %v", sent.Key(), got.Key())
			}
			priority := fmt.Sprintf("priority=%d", sent.Priority)
			want := "cookie=0x5350000000000001, table=1, " + strings.Replace(tc.want, "priority=N", priority, 1)
			if !slices.Contains(printed, want) {
				t.Errorf("ovs-ofctl does not print\n%s\nbut\n%s", want, strings.Join(slices.DeleteFunc(slices.Clone(printed), func(s string) bool { return !strings.Contains(s, priority) }), "\n"))
			}
		})
	}
	if len(byPriority) != len(flows) {
		t.Errorf("%d flows, not %d", len(byPriority), len(flows))
	}

	// What was read can be deleted, though the switch has spelt it its way.
	apply(t, c, Change{Delete: dump(t, c, 0, 0)})
	if left := dump(t, c, 0, 0); len(left) != 0 {
		t.Errorf("not deleted: %v", texts(left))
	}
}

// The text form is ovs-ofctl's: its parser makes the same flows of it.
func TestTextIsWhatOfctlTakes(t *testing.T) {
	sw, c := startSwitch(t)
	var flows []Flow
	for i, f := range caseFlows() {
		if flowCases[i].name == scattered {
			continue
		}
		flows = append(flows, f)
		sw.Ofctl("add-flow", bridge, f.String())
	}
	got := dump(t, c, 0, 0)
	if g, w := texts(got), texts(flows); !slices.Equal(g, w) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
}
