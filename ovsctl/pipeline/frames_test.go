package pipeline_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
)

var (
	broadcast = dataplane.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = dataplane.MAC{0x33, 0x33, 0, 0, 0, 1}
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// ether is a frame of at least the least length.
func ether(dst, src dataplane.MAC, typ uint16, payload ...[]byte) []byte {
	f := slices.Concat(dst[:], src[:], binary.BigEndian.AppendUint16(nil, typ), slices.Concat(payload...))
	for len(f) < 60 {
		f = append(f, 0)
	}
	return f
}

func tagged(frame []byte, vlan uint16) []byte {
	tag := binary.BigEndian.AppendUint16([]byte{0x81, 0}, vlan)
	return slices.Concat(frame[:12], tag, frame[12:])
}

func arp(op uint16, sha dataplane.MAC, spa netip.Addr, tha dataplane.MAC, tpa netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, byte(op)}, sha[:], spa.AsSlice(), tha[:], tpa.AsSlice())
}

func ipv4(src, dst netip.Addr, text string) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0} // 253: for experiments, RFC 3692
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(text)))
	h = slices.Concat(h, src.AsSlice(), dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, text...)
}

func ipv6(src, dst netip.Addr, next, hops byte, payload []byte) []byte {
	h := []byte{0x60, 0, 0, 0, 0, 0, next, hops}
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	return slices.Concat(h, src.AsSlice(), dst.AsSlice(), payload)
}

// icmp6 is a whole IPv6 packet; the body follows type, code and checksum.
func icmp6(src, dst netip.Addr, typ byte, body ...[]byte) []byte {
	m := slices.Concat([]byte{typ, 0, 0, 0}, slices.Concat(body...))
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 0, byte(len(m) >> 8), byte(len(m)), 0, 0, 0, 58}, m)
	binary.BigEndian.PutUint16(m[2:], checksum(pseudo))
	return ipv6(src, dst, 58, 255, m)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func solicit(src, dst, target netip.Addr, options ...[]byte) []byte {
	return icmp6(src, dst, 135, make([]byte, 4), target.AsSlice(), slices.Concat(options...))
}

func advert(src, dst, target netip.Addr, flags byte, options ...[]byte) []byte {
	return icmp6(src, dst, 136, []byte{flags, 0, 0, 0}, target.AsSlice(), slices.Concat(options...))
}

// option is a link-layer address option: 1 source, 2 target.
func option(typ byte, mac dataplane.MAC) []byte { return append([]byte{typ, 1}, mac[:]...) }

// solicitedNode is the group that an address is asked for in, and its MAC.
func solicitedNode(a netip.Addr) (netip.Addr, dataplane.MAC) {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]}),
		dataplane.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}
