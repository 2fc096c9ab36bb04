package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// probeType is the ethertype of probes, that of Ethernet's loopback test (Ethernet 2.0, chapter 8), which stations have no
// use for today. Those for experiments (0x88b5, 0x88b6) are left to containers.
const probeType uint16 = 0x9000

// Who answers probes has an address of its own: locally administered, and none that an endpoint gets, as theirs begin with 02:42 or
// are the users'. Its first three bytes say that it is an answer, its last three which host answers.
const (
	probeOUI     = "\x02\x53\x50"
	probeOUIMask = "\xff\xff\xff\x00\x00\x00"
)

// ProbeMAC is the address with which the switch of a host answers, by the host's id. Two hosts have the same by chance, once in 16 million
// pairs; then an answer does not tell them apart.
func ProbeMAC(host string) dataplane.MAC {
	sum := sha256.Sum256([]byte(host))
	mac := dataplane.MAC([]byte(probeOUI + "\x00\x00\x00"))
	copy(mac[len(probeOUI):], sum[:])
	return mac
}

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
func baseProbe(b *builder, kind dataplane.TunnelKind, host string) {
	b.add(openflow.Flow{Table: TableUnicast, Priority: probeOther, Match: match(fields(ethType(probeType)))})
	if kind == "" {
		return
	}
	from := fields(openflow.U32(RegOrigin, FromTunnel), ethType(probeType))
	answer := []openflow.Action{
		openflow.Move{Src: openflow.EthSrc, Dst: openflow.EthDst},
		set(openflow.MaskedMAC(openflow.EthDst, [6]byte{}, groupBit)),
		set(openflow.MAC(openflow.EthSrc, ProbeMAC(host))),
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
		Match:   match(from, fields(openflow.MaskedMAC(openflow.EthSrc, ProbeMAC(host), [6]byte([]byte(probeOUIMask))))),
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
	return frame, newTunnel(cfg.Tunnel, Segment{VNI: n.VNI, Device: devicePort}).to(to)
}

// Answered says whether a frame is a probe's answer with this nonce and size, and who answered, as ProbeMAC.
func Answered(frame, nonce []byte, size int) (dataplane.MAC, bool) {
	if len(frame) < headerEther+max(size, len(nonce)) || !bytes.Equal(frame[headerEther:headerEther+len(nonce)], nonce) {
		return dataplane.MAC{}, false
	}
	return dataplane.MAC(frame[6:12]), true
}
