package openflow

import (
	"context"
	"encoding/binary"
)

// wholeFrame is OFPCML_NO_BUFFER (OpenFlow 1.4 §7.3.1): the controller gets all of a frame.
const wholeFrame = 0xffff

// Listen has the switch send this connection the frames that flows output to PortController, and gives them to
// handle, which runs in the connection's reader and must not wait. Without it a management connection gets none.
func (c *Conn) Listen(ctx context.Context, handle func(frame []byte)) error {
	c.mu.Lock()
	c.frame = handle
	c.mu.Unlock()
	// Open vSwitch takes a miss_send_len that is not 0 for the wish to be sent frames (its topics/design.rst).
	return c.send(ctx, simpleMessage(typeSetConfig, 0, put16(put16(nil, 0), wholeFrame)))
}

// Send has the switch carry out the actions on a frame of the caller's, as if it came from the bridge's own port. Nobody
// answers: what becomes of the frame is not known, nor whether the switch refused it.
func (c *Conn) Send(ctx context.Context, frame []byte, actions ...Action) error {
	b, err := packetOut(frame, actions)
	if err != nil {
		return err
	}
	return c.send(ctx, b)
}

// packetOut is OFPT_PACKET_OUT (§7.3.6).
func packetOut(frame []byte, actions []Action) ([]byte, error) {
	b := appendHeader(nil, typePacketOut, 0)
	b = put32(put32(b, noBuffer), PortLocal)
	length := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // the actions' length, and padding
	start := len(b)
	for _, a := range actions {
		var err error
		if b, err = appendActionWire(b, a); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint16(b[length:], uint16(len(b)-start))
	return endMessage(append(b, frame...), 0)
}

// packetInFrame is the frame in an OFPT_PACKET_IN's body (§7.4.1); false if the body is not one.
func packetInFrame(body []byte) ([]byte, bool) {
	const fixed = 16 // buffer, length, reason, table, cookie
	if len(body) < fixed+4 {
		return nil, false
	}
	match := (int(be16(body[fixed+2:])) + 7) / 8 * 8
	start := fixed + match + 2 // padding, so that the frame's network header is aligned
	if start > len(body) {
		return nil, false
	}
	return body[start:], true
}
