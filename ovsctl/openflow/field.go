package openflow

// OXM classes (ovs-fields(7), "OXM Header"). A field's code is its class and its
// number within the class as they stand in the upper 23 bits of an OXM header.
const (
	classNXM0     = 0x0000 << 16
	classNXM1     = 0x0001 << 16
	classEricsson = 0x1000 << 16
	classBasic    = 0x8000 << 16

	codeMask    = 0xfffffe00
	numberShift = 9
	hasMask     = 1 << 8
	lengthMask  = 0xff
)

// The switch reports a VLAN tag by two fields of its own in OpenFlow 1.4.
const (
	codeVLANVID = classBasic | 6<<numberShift
	codeVLANPCP = classBasic | 7<<numberShift
)

// format is how ovs-ofctl writes a field's value.
type format uint8

const (
	decimal format = iota
	hexadecimal
	hex4
	ethernet
	address
)

// fieldInfo is what the wire and text forms of a field need.
type fieldInfo struct {
	match  string // its name in a match
	action string // its name in an action
	width  int    // bytes
	code   uint32 // class and number that we send
	// alt is another code under which the switch may report it (it names the
	// fields of a move by NXM where there is one); 0 is none: NXM_OF_IN_PORT
	// has that code, but another width than our InPort.
	alt    uint32
	format format
}

// fields is a constant table, by FieldID. The numbers are those of
// ovs-fields(7) and of Open vSwitch's include/openvswitch/meta-flow.h.
var fields = [...]fieldInfo{
	InPort:        {"in_port", "in_port_oxm", 4, classBasic | 0<<numberShift, 0, decimal},
	EthDst:        {"dl_dst", "eth_dst", 6, classBasic | 3<<numberShift, classNXM0 | 1<<numberShift, ethernet},
	EthSrc:        {"dl_src", "eth_src", 6, classBasic | 4<<numberShift, classNXM0 | 2<<numberShift, ethernet},
	EthType:       {"dl_type", "eth_type", 2, classBasic | 5<<numberShift, classNXM0 | 3<<numberShift, hex4},
	VLANTCI:       {"vlan_tci", "vlan_tci", 2, classNXM0 | 4<<numberShift, 0, hex4},
	IPProto:       {"nw_proto", "nw_proto", 1, classBasic | 10<<numberShift, classNXM0 | 6<<numberShift, decimal},
	IPv4Src:       {"nw_src", "ip_src", 4, classBasic | 11<<numberShift, classNXM0 | 7<<numberShift, address},
	IPv4Dst:       {"nw_dst", "ip_dst", 4, classBasic | 12<<numberShift, classNXM0 | 8<<numberShift, address},
	ARPOp:         {"arp_op", "arp_op", 2, classBasic | 21<<numberShift, classNXM0 | 15<<numberShift, decimal},
	ARPSPA:        {"arp_spa", "arp_spa", 4, classBasic | 22<<numberShift, classNXM0 | 16<<numberShift, address},
	ARPTPA:        {"arp_tpa", "arp_tpa", 4, classBasic | 23<<numberShift, classNXM0 | 17<<numberShift, address},
	ARPSHA:        {"arp_sha", "arp_sha", 6, classBasic | 24<<numberShift, classNXM1 | 17<<numberShift, ethernet},
	ARPTHA:        {"arp_tha", "arp_tha", 6, classBasic | 25<<numberShift, classNXM1 | 18<<numberShift, ethernet},
	IPv6Src:       {"ipv6_src", "ipv6_src", 16, classBasic | 26<<numberShift, classNXM1 | 19<<numberShift, address},
	IPv6Dst:       {"ipv6_dst", "ipv6_dst", 16, classBasic | 27<<numberShift, classNXM1 | 20<<numberShift, address},
	ICMPv6Type:    {"icmpv6_type", "icmpv6_type", 1, classBasic | 29<<numberShift, classNXM1 | 21<<numberShift, decimal},
	ICMPv6Code:    {"icmpv6_code", "icmpv6_code", 1, classBasic | 30<<numberShift, classNXM1 | 22<<numberShift, decimal},
	NDTarget:      {"nd_target", "nd_target", 16, classBasic | 31<<numberShift, classNXM1 | 23<<numberShift, address},
	NDSLL:         {"nd_sll", "nd_sll", 6, classBasic | 32<<numberShift, classNXM1 | 24<<numberShift, ethernet},
	NDTLL:         {"nd_tll", "nd_tll", 6, classBasic | 33<<numberShift, classNXM1 | 25<<numberShift, ethernet},
	NDReserved:    {"nd_reserved", "nd_reserved", 4, classEricsson | 1<<numberShift, 0, decimal},
	NDOptionsType: {"nd_options_type", "nd_options_type", 1, classEricsson | 2<<numberShift, 0, decimal},
	UDPSrc:        {"udp_src", "udp_src", 2, classBasic | 15<<numberShift, classNXM0 | 11<<numberShift, decimal},
	UDPDst:        {"udp_dst", "udp_dst", 2, classBasic | 16<<numberShift, classNXM0 | 12<<numberShift, decimal},
	TunnelID:      {"tun_id", "tun_id", 8, classBasic | 38<<numberShift, classNXM1 | 16<<numberShift, hexadecimal},
	TunIPv4Src:    {"tun_src", "tun_src", 4, classNXM1 | 31<<numberShift, 0, address},
	TunIPv4Dst:    {"tun_dst", "tun_dst", 4, classNXM1 | 32<<numberShift, 0, address},
	TunIPv6Src:    {"tun_ipv6_src", "tun_ipv6_src", 16, classNXM1 | 109<<numberShift, 0, address},
	TunIPv6Dst:    {"tun_ipv6_dst", "tun_ipv6_dst", 16, classNXM1 | 110<<numberShift, 0, address},
	Reg0:          {"reg0", "reg0", 4, classNXM1 | 0<<numberShift, 0, hexadecimal},
	Reg1:          {"reg1", "reg1", 4, classNXM1 | 1<<numberShift, 0, hexadecimal},
	Reg2:          {"reg2", "reg2", 4, classNXM1 | 2<<numberShift, 0, hexadecimal},
	Reg3:          {"reg3", "reg3", 4, classNXM1 | 3<<numberShift, 0, hexadecimal},
}

// info finds a field's properties; false for a FieldID that does not exist.
func (id FieldID) info() (fieldInfo, bool) {
	if id == 0 || int(id) >= len(fields) {
		return fieldInfo{}, false
	}
	return fields[id], true
}

// fieldByCode is the inverse of the table; 0 is none of ours.
func fieldByCode(code uint32) FieldID {
	for id := InPort; int(id) < len(fields); id++ {
		if f := &fields[id]; f.code == code || f.alt != 0 && f.alt == code {
			return id
		}
	}
	return 0
}
