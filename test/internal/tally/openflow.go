package tally

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// OpenFlow's message types (OpenFlow 1.4, section 7.1).
const (
	ofFlowMod          = 14
	ofGroupMod         = 15
	ofMultipartRequest = 18
	ofMultipartReply   = 19
	ofBarrier          = 20
	ofBundleAdd        = 34
)

// Multipart types of it (section 7.3.5). Open vSwitch's own flow monitor is of the experimenter's.
const (
	multipartFlow        = 1
	multipartAggregate   = 2
	multipartGroupDesc   = 7
	multipartFlowMonitor = 16
	multipartOwn         = 0xffff
)

const ofHeader = 8

// OpenFlow counts what passes to a bridge: "flow-mods", "group-mods", "flow dumps", "flow counts" (aggregates), "group dumps", "flow monitors",
// "other statistics", "barriers"; "flow dumps: bytes" is the size of the answers to dumps.
func OpenFlow(t testing.TB, l net.Listener, to Dial) *Counter {
	c := &Counter{}
	stream(t, l, to, func() (asked, answered io.Writer) {
		return &frames{each: c.flowAsked}, &frames{each: c.flowAnswered}
	})
	return c
}

func (c *Counter) flowAsked(m []byte) {
	kind := m[1]
	if kind == ofBundleAdd && len(m) >= 2*ofHeader+ofHeader {
		kind = m[2*ofHeader+1] // the message that it wraps, after bundle id and flags
	}
	switch kind {
	case ofFlowMod:
		c.add("flow-mods", 1)
	case ofGroupMod:
		c.add("group-mods", 1)
	case ofBarrier:
		c.add("barriers", 1)
	case ofMultipartRequest:
		if len(m) >= ofHeader+2 {
			c.add(multipart(binary.BigEndian.Uint16(m[ofHeader:])), 1)
		}
	}
}

func (c *Counter) flowAnswered(m []byte) {
	if m[1] == ofMultipartReply && len(m) >= ofHeader+2 && binary.BigEndian.Uint16(m[ofHeader:]) == multipartFlow {
		c.add("flow dumps: bytes", int64(len(m)))
	}
}

func multipart(kind uint16) string {
	switch kind {
	case multipartFlow:
		return "flow dumps"
	case multipartAggregate:
		return "flow counts"
	case multipartGroupDesc:
		return "group dumps"
	case multipartFlowMonitor, multipartOwn:
		return "flow monitors"
	}
	return "other statistics"
}

// frames cuts a stream into OpenFlow's messages.
type frames struct {
	each func(message []byte)
	left []byte
	torn bool
}

// Write implements io.Writer. It never fails: what is no OpenFlow is not counted.
func (f *frames) Write(b []byte) (int, error) {
	if f.torn {
		return len(b), nil
	}
	f.left = append(f.left, b...)
	for len(f.left) >= ofHeader {
		n := int(binary.BigEndian.Uint16(f.left[2:]))
		if n < ofHeader {
			f.torn, f.left = true, nil
			break
		}
		if len(f.left) < n {
			break
		}
		f.each(f.left[:n])
		f.left = f.left[n:]
	}
	return len(b), nil
}
