package pipeline_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

func install(t *testing.T, sw *ovs.Switch, bridge string, flows []openflow.Flow) {
	t.Helper()
	var text strings.Builder
	for _, f := range flows {
		text.WriteString(ofctl(f) + "\n")
	}
	file := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	sw.Ofctl("--bundle", "replace-flows", bridge, file)
}

var names = map[openflow.FieldID]string{
	openflow.InPort: "in_port", openflow.EthDst: "eth_dst", openflow.EthSrc: "eth_src", openflow.EthType: "eth_type",
	openflow.VLANTCI: "vlan_tci", openflow.IPProto: "ip_proto", openflow.IPv4Src: "ip_src", openflow.IPv4Dst: "ip_dst",
	openflow.ARPOp: "arp_op", openflow.ARPSPA: "arp_spa", openflow.ARPTPA: "arp_tpa", openflow.ARPSHA: "arp_sha", openflow.ARPTHA: "arp_tha",
	openflow.IPv6Src: "ipv6_src", openflow.IPv6Dst: "ipv6_dst", openflow.ICMPv6Type: "icmpv6_type", openflow.ICMPv6Code: "icmpv6_code",
	openflow.NDTarget: "nd_target", openflow.NDSLL: "nd_sll", openflow.NDTLL: "nd_tll", openflow.NDReserved: "nd_reserved", openflow.NDOptionsType: "nd_options_type",
	openflow.TunnelID: "tun_id", openflow.TunIPv4Dst: "tun_dst", openflow.TunIPv6Dst: "tun_ipv6_dst", openflow.Reg0: "reg0", openflow.Reg1: "reg1",
}

func value(id openflow.FieldID, v []byte) string {
	switch id {
	case openflow.InPort:
		return fmt.Sprint(binary.BigEndian.Uint32(v))
	case openflow.EthDst, openflow.EthSrc, openflow.ARPSHA, openflow.ARPTHA, openflow.NDSLL, openflow.NDTLL:
		return net.HardwareAddr(v).String()
	case openflow.IPv4Src, openflow.IPv4Dst, openflow.ARPSPA, openflow.ARPTPA, openflow.IPv6Src, openflow.IPv6Dst,
		openflow.NDTarget, openflow.TunIPv4Dst, openflow.TunIPv6Dst:
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	}
	var b [8]byte
	copy(b[8-len(v):], v)
	return fmt.Sprintf("0x%x", binary.BigEndian.Uint64(b[:]))
}

func ofctl(f openflow.Flow) string {
	s := fmt.Sprintf("table=%d,priority=%d", f.Table, f.Priority)
	for _, m := range f.Match {
		s += "," + names[m.ID] + "=" + value(m.ID, m.Value)
		if m.Mask != nil {
			s += "/" + value(m.ID, m.Mask)
		}
	}
	var actions []string
	for _, a := range f.Actions {
		switch a := a.(type) {
		case openflow.Output:
			if a.Port == openflow.PortIn {
				actions = append(actions, "in_port")
			} else {
				actions = append(actions, fmt.Sprintf("output:%d", a.Port))
			}
		case openflow.SetField:
			actions = append(actions, "set_field:"+value(a.ID, a.Value)+"->"+names[a.ID])
		case openflow.Move:
			actions = append(actions, "move:"+names[a.Src]+"->"+names[a.Dst])
		}
	}
	if f.Goto != 0 {
		actions = append(actions, fmt.Sprintf("goto_table:%d", f.Goto))
	}
	if len(actions) == 0 {
		actions = []string{"drop"}
	}
	return s + " actions=" + strings.Join(actions, ",")
}
