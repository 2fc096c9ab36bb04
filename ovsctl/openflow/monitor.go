package openflow

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrNoMonitor is returned by a switch that has no flow monitor for OpenFlow 1.4: Open vSwitch before 2.16.
var ErrNoMonitor = errors.New("the switch has no flow monitor")

// EventKind is what a FlowEvent tells (OpenFlow 1.4 §7.3.5.17, ofp_flow_update_event).
type EventKind uint16

// The kinds of events.
const (
	// FlowInitial is a flow that was there when the monitor began.
	FlowInitial EventKind = 0
	// FlowAdded is a new flow, also one that replaces another with the same Key.
	FlowAdded EventKind = 1
	// FlowDeleted is a flow that is gone, as it was.
	FlowDeleted EventKind = 2
	// FlowModified is a flow whose actions or cookie changed, as it is.
	FlowModified EventKind = 3
	// FlowOwn stands for what this connection changed; other connections are told its flows.
	FlowOwn EventKind = 4
	// MonitorPaused says that more changed than the connection took: the switch tells of deletions only, until MonitorResumed.
	// Before that it tells of all flows that were added or modified meanwhile, so nothing is lost but the steps between.
	MonitorPaused EventKind = 5
	// MonitorResumed ends a pause: all has been told.
	MonitorResumed EventKind = 6
)

// String is the kind's name in logs.
func (k EventKind) String() string {
	names := [...]string{"initial", "added", "deleted", "modified", "own", "paused", "resumed"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("event %d", uint16(k))
}

// FlowEvent is a change of the switch's flow tables.
type FlowEvent struct {
	Kind EventKind
	// Flow is there with FlowInitial, FlowAdded, FlowDeleted and FlowModified.
	Flow Flow
	// XID is the transaction of the message that FlowOwn stands for.
	XID uint32
}

// MonitorOptions choose what Monitor tells.
type MonitorOptions struct {
	// Initial tells the flows that are there when the monitor begins.
	Initial bool
}

const (
	multipartFlowMonitor = 16
	monitorID            = 1
	monitorAdd           = 0 // OFPFMC_ADD

	monitorInitial      = 1 << 0
	monitorChanges      = 1<<1 | 1<<2 | 1<<3 // added, removed, modified
	monitorInstructions = 1 << 4
)

// Monitor has the switch tell all changes of its flows, whichever connection made them, and gives them to handle, which
// runs in the connection's reader and must not wait. It returns when the initial flows have been told. It lasts as long as
// the connection; a connection has one at most.
//
// What the connection itself changes is told by FlowOwn: Open vSwitch 3.1 refuses the flag that would have it told in full (OFPFMF_NO_ABBREV),
// without an answer. A second connection is told all in full.
func (c *Conn) Monitor(ctx context.Context, o MonitorOptions, handle func([]FlowEvent)) error {
	c.mu.Lock()
	if c.monitor != nil {
		c.mu.Unlock()
		return fmt.Errorf("%w: the connection has a flow monitor already", ErrInvalid)
	}
	c.monitor = handle
	c.mu.Unlock()
	err := c.roundTrip(ctx, "to monitor flows",
		func(xid uint32) []byte { return monitorRequest(xid, o) },
		func(m message) (more bool, err error) {
			if m.kind != typeMultipartReply {
				return false, fmt.Errorf("%w: answer of type %d to a multipart request", ErrProtocol, m.kind)
			}
			events, more, err := decodeMonitorReply(m.body)
			c.tell(events, handle)
			return more, err
		})
	if err == nil {
		return nil
	}
	c.mu.Lock()
	c.monitor = nil
	c.mu.Unlock()
	var refused *Error
	if errors.As(err, &refused) && refused.Type == errorBadRequest {
		return fmt.Errorf("%w: %w", ErrNoMonitor, err)
	}
	return err
}

// errorBadRequest is OFPET_BAD_REQUEST.
const errorBadRequest = 1

// monitorRequest asks for the changes of all flows (ofp_flow_monitor_request).
func monitorRequest(xid uint32, o MonitorOptions) []byte {
	flags := uint16(monitorChanges | monitorInstructions)
	if o.Initial {
		flags |= monitorInitial
	}
	b := append(put16(make([]byte, 0, 40), multipartFlowMonitor), 0, 0, 0, 0, 0, 0)
	b = put32(put32(put32(b, monitorID), anyPort), anyGroup)
	b = append(put16(b, flags), allTables, monitorAdd)
	b = append(put16(put16(b, matchTypeOXM), 4), 0, 0, 0, 0)
	return simpleMessage(typeMultipartRequest, xid, b)
}

// told takes what the switch tells by itself. What can't be read ends the connection: the reader of the events would
// else believe in flows that are gone.
func (c *Conn) told(m message, handle func([]FlowEvent)) {
	events, _, err := decodeMonitorReply(m.body)
	if err != nil {
		c.fail(err)
		return
	}
	c.tell(events, handle)
}

func (c *Conn) tell(events []FlowEvent, handle func([]FlowEvent)) {
	c.count(func(n *counters) *atomic.Uint64 { return &n.events }, len(events))
	if len(events) > 0 {
		handle(events)
	}
}

// isMonitorReply says whether a message has flow events.
func isMonitorReply(m message) bool {
	return m.kind == typeMultipartReply && len(m.body) >= 8 && be16(m.body) == multipartFlowMonitor
}

// Lengths of ofp_flow_update_full without match and instructions, and of the shorter updates.
const (
	updateFullLength  = 24
	updateShortLength = 8
)

// decodeMonitorReply reads one part of a multipart reply with flow events.
func decodeMonitorReply(body []byte) (events []FlowEvent, more bool, err error) {
	if len(body) < 8 || be16(body) != multipartFlowMonitor {
		return nil, false, fmt.Errorf("%w: multipart reply of %d bytes that has no flow events", ErrProtocol, len(body))
	}
	more = be16(body[2:])&multipartReplyMore != 0
	for b := body[8:]; len(b) > 0; {
		n := 0
		if len(b) >= updateShortLength {
			n = int(be16(b))
		}
		if n < updateShortLength || n > len(b) {
			return events, false, fmt.Errorf("%w: flow event of length %d with %d bytes left", ErrProtocol, n, len(b))
		}
		e, err := decodeFlowEvent(b[:n])
		if err != nil {
			return events, false, err
		}
		events, b = append(events, e), b[n:]
	}
	return events, more, nil
}

// decodeFlowEvent reads one event; its values alias b.
func decodeFlowEvent(b []byte) (FlowEvent, error) {
	e := FlowEvent{Kind: EventKind(be16(b[2:]))}
	switch e.Kind {
	case FlowOwn:
		e.XID = be32(b[4:])
		return e, nil
	case MonitorPaused, MonitorResumed:
		return e, nil
	case FlowInitial, FlowAdded, FlowDeleted, FlowModified:
	default:
		return e, fmt.Errorf("%w: flow %s", ErrProtocol, e.Kind)
	}
	if len(b) < updateFullLength {
		return e, fmt.Errorf("%w: flow event of %d bytes", ErrProtocol, len(b))
	}
	e.Flow = Flow{Table: b[4], Priority: be16(b[10:]), Cookie: be64(b[16:])}
	timeouts := be32(b[6:]) // idle and hard
	return e, decodeMatchAndInstructions(b[updateFullLength:], &e.Flow, timeouts != 0)
}
