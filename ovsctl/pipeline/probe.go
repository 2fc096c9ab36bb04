package pipeline

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// probeType is the ethertype of probes, that of Ethernet's loopback test (Ethernet 2.0, chapter 8), which stations have no
// use for today. Those for experiments (0x88b5, 0x88b6) are left to containers.
const probeType uint16 = 0x9000

// probeMAC is who answers probes: a locally administered address that no endpoint gets, as theirs begin with 02:42 or
// are the users'.
var probeMAC = dataplane.MAC{0x02, 0x53, 0x50, 0x00, 0x00, 0x01}

// Priorities of probes in TableUnicast: before all that containers send.
const (
	probeKnown = 310
	probeOther = 300
)

// headerEther is the length of an Ethernet header.
const headerEther = 14

// baseProbe has the switch answer probes of other hosts, and give this host the answers to its own. A probe is known by the
// group bit of its sender's address, which no station has; its answer goes to that address without the bit, and is
// never answered itself. Containers can neither send probes nor get them.
func baseProbe(b *builder, kind dataplane.TunnelKind) {
	b.add(openflow.Flow{Table: TableUnicast, Priority: probeOther, Match: match(fields(ethType(probeType)))})
	if kind == "" {
		return
	}
	from := fields(openflow.U32(RegOrigin, FromTunnel), ethType(probeType))
	answer := []openflow.Action{
		openflow.Move{Src: openflow.EthSrc, Dst: openflow.EthDst},
		set(openflow.MaskedMAC(openflow.EthDst, [6]byte{}, groupBit)),
		set(openflow.MAC(openflow.EthSrc, probeMAC)),
	}
	if kind == dataplane.TunnelOVS {
		// The family that the frame did not come by is zero, and so is cleared.
		answer = append(answer, openflow.Move{Src: openflow.TunIPv4Src, Dst: openflow.TunIPv4Dst},
			openflow.Move{Src: openflow.TunIPv6Src, Dst: openflow.TunIPv6Dst})
	}
	b.add(openflow.Flow{
		Table: TableUnicast, Priority: probeKnown,
		Match:   match(from, fields(openflow.MaskedMAC(openflow.EthSrc, groupBit, groupBit))),
		Actions: append(answer, openflow.Output{Port: openflow.PortIn}),
	})
	b.add(openflow.Flow{
		Table: TableUnicast, Priority: probeKnown,
		Match:   match(from, fields(openflow.MAC(openflow.EthSrc, probeMAC))),
		Actions: []openflow.Action{openflow.Output{Port: openflow.PortController}},
	})
}

// Probe is a frame of size bytes behind its Ethernet header that carries nonce (in as many bytes as there is room for) to
// an endpoint of another host, whose switch answers it, and the actions that send it there. from is an endpoint of this
// host, devicePort as for Network.
func Probe(cfg Config, n dataplane.Network, devicePort uint32, to netip.Addr, from, dst dataplane.MAC, size int, nonce []byte) ([]byte, []openflow.Action) {
	frame := make([]byte, headerEther+size)
	copy(frame, dst[:])
	copy(frame[6:], from[:])
	frame[6] |= groupBit[0]
	binary.BigEndian.PutUint16(frame[12:], probeType)
	copy(frame[headerEther:], nonce)
	return frame, newTunnel(cfg.Tunnel, n, devicePort).to(to)
}

// Answered says whether a frame is a probe's answer with this nonce and size.
func Answered(frame, nonce []byte, size int) bool {
	return len(frame) >= headerEther+max(size, len(nonce)) && bytes.Equal(frame[headerEther:headerEther+len(nonce)], nonce)
}
