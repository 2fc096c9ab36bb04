package openflow

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The protocol that we speak: OpenFlow 1.4 (wire version 5), the first with
// bundles.
const version = 5

// maxMessage is the longest message: the length field has 16 bits.
const maxMessage = 0xffff

const headerLength = 8

// Message types (OpenFlow 1.4 §7.1.1).
const (
	typeHello            = 0
	typeError            = 1
	typeEchoRequest      = 2
	typeEchoReply        = 3
	typeFeaturesRequest  = 5
	typeFeaturesReply    = 6
	typeSetConfig        = 9
	typePacketIn         = 10
	typePacketOut        = 13
	typeFlowMod          = 14
	typeMultipartRequest = 18
	typeMultipartReply   = 19
	typeBundleControl    = 33
	typeBundleAdd        = 34
)

// Commands of a flow-mod (§7.3.4.2).
const (
	commandAdd          = 0
	commandModifyStrict = 2
	commandDelete       = 3
	commandDeleteStrict = 4
)

// Wildcards of tables, ports, groups and buffers (§7.2.1, §7.3.4.2, §7.3.5.2).
const (
	allTables = 0xff
	anyPort   = 0xffffffff
	anyGroup  = 0xffffffff
	noBuffer  = 0xffffffff
)

// Bundles (§7.3.9).
const (
	bundleOpen         = 0
	bundleClose        = 2
	bundleCloseReply   = 3
	bundleCommit       = 4
	bundleCommitReply  = 5
	bundleDiscard      = 6
	bundleFlags        = 1<<0 | 1<<1 // atomic and ordered
	multipartDesc      = 0
	multipartFlow      = 1
	multipartAggregate = 2
	multipartReplyMore = 1
)

// message is one OpenFlow message without its header.
type message struct {
	version, kind uint8
	xid           uint32
	body          []byte
}

// readMessage reads one message. It allocates what the length field says, 64 KiB
// at most.
func readMessage(r io.Reader) (message, error) {
	return readMessageInto(r, func(_ uint32, n int) []byte { return make([]byte, n) })
}

// readMessageInto is readMessage with the memory that room has for so many bytes of an answer with this transaction id.
func readMessageInto(r io.Reader, room func(xid uint32, n int) []byte) (message, error) {
	var head [headerLength]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	m := message{version: head[0], kind: head[1], xid: be32(head[4:])}
	n := int(be16(head[2:]))
	if n < headerLength {
		return m, fmt.Errorf("%w: message type %d of length %d", ErrProtocol, m.kind, n)
	}
	m.body = room(m.xid, n-headerLength)
	if _, err := io.ReadFull(r, m.body); err != nil {
		return m, fmt.Errorf("message type %d: %w", m.kind, err)
	}
	return m, nil
}

// appendHeader begins a message whose length endMessage writes.
func appendHeader(b []byte, kind uint8, xid uint32) []byte {
	return put32(append(b, version, kind, 0, 0), xid)
}

func endMessage(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > maxMessage {
		return b, fmt.Errorf("%w: its message has %d bytes, %d is the most", ErrInvalid, n, maxMessage)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

// simpleMessage is a message with a short body.
func simpleMessage(kind uint8, xid uint32, body []byte) []byte {
	b := append(appendHeader(make([]byte, 0, headerLength+len(body)), kind, xid), body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

const helloVersionBitmap = 1 // OFPHET_VERSIONBITMAP

// helloMessage offers just our version.
func helloMessage(xid uint32) []byte {
	return simpleMessage(typeHello, xid, put32(put16(put16(nil, helloVersionBitmap), 8), 1<<version))
}

// helloAccepts says whether the sender of a hello speaks our version: by the
// bitmap, or in its absence as the highest of all versions from 1.0 (§6.3.1).
func helloAccepts(m message) bool {
	b := m.body
	for len(b) >= 4 {
		n := int(be16(b[2:]))
		if n < 4 || n > len(b) {
			break
		}
		if be16(b) == helloVersionBitmap && n >= 8 {
			return be32(b[4:])&(1<<version) != 0
		}
		b = b[min(len(b), (n+7)/8*8):]
	}
	return m.version >= version
}

// mod is one change of the flow tables.
type mod struct {
	flow       Flow
	command    uint8
	cookieMask uint64 // deletes: which bits of the cookie have to agree; 0 is none
}

// String names the change in errors and logs.
func (m mod) String() string {
	switch m.command {
	case commandDelete:
		return fmt.Sprintf("delete cookie=0x%x/0x%x", m.flow.Cookie, m.cookieMask)
	case commandDeleteStrict:
		return "delete " + m.flow.Key()
	default:
		text := m.flow.String()
		if len(text) > longestSubject { // of a flood, 64 KiB
			return text[:longestSubject] + fmt.Sprintf("... (%d actions)", len(m.flow.Actions))
		}
		return text
	}
}

// longestSubject is how much of a flow errors and logs tell, in bytes: all of an endpoint's.
const longestSubject = 600

// appendFlowMod appends a whole flow-mod message (§7.3.4.2).
func appendFlowMod(b []byte, xid uint32, m mod) ([]byte, error) {
	if adds := m.command == commandAdd || m.command == commandModifyStrict; adds && m.flow.Opaque != "" {
		return b, fmt.Errorf("%w: it has an %s, which this package can't send", ErrInvalid, m.flow.Opaque)
	}
	start := len(b)
	b = appendHeader(b, typeFlowMod, xid)
	b = put64(put64(b, m.flow.Cookie), m.cookieMask)
	b = append(b, m.flow.Table, m.command, 0, 0, 0, 0) // no timeouts
	b = put16(b, m.flow.Priority)
	b = put32(put32(put32(b, noBuffer), anyPort), anyGroup)
	b = put32(b, 0) // flags, importance
	b, err := appendMatch(b, m.flow)
	if err == nil && (m.command == commandAdd || m.command == commandModifyStrict) {
		b, err = appendInstructions(b, m.flow)
	}
	if err != nil {
		return b, err
	}
	return endMessage(b, start)
}

// appendBundleAdd appends a change as a part of a bundle. The switch demands
// that the inner message has the same transaction id.
func appendBundleAdd(b []byte, xid, bundle uint32, m mod) ([]byte, error) {
	start := len(b)
	b = appendHeader(b, typeBundleAdd, xid)
	b = put16(put16(put32(b, bundle), 0), bundleFlags)
	b, err := appendFlowMod(b, xid, m)
	if err != nil {
		return b[:start], err
	}
	if b, err = endMessage(b, start); err != nil {
		return b[:start], err
	}
	return b, nil
}

func bundleControl(xid, bundle uint32, control uint16) []byte {
	return simpleMessage(typeBundleControl, xid, put16(put16(put32(nil, bundle), control), bundleFlags))
}

// flowStatsRequest asks for all flows whose cookies agree in the mask's bits.
func flowStatsRequest(xid uint32, cookie, mask uint64) []byte {
	return statsRequest(multipartFlow, xid, cookie, mask)
}

// statsRequest is flowStatsRequest, or one of another kind with the same body (§7.3.5.3).
func statsRequest(kind uint16, xid uint32, cookie, mask uint64) []byte {
	b := put16(make([]byte, 0, 48), kind)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, allTables, 0, 0, 0)
	b = put32(put32(put32(b, anyPort), anyGroup), 0)
	b = put64(put64(b, cookie), mask)
	b = put32(put16(put16(b, matchTypeOXM), 4), 0)
	return simpleMessage(typeMultipartRequest, xid, b)
}

// EncodedLength is the length in bytes of the message that adds a flow; a message has at most 65,535.
func EncodedLength(f Flow) (int, error) {
	b, err := appendFlowMod(nil, 0, mod{flow: f, command: commandAdd})
	return len(b), err
}
