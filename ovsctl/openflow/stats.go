package openflow

import "fmt"

// flowStatsLength is the fixed part of an ofp_flow_stats (§7.3.5.2).
const flowStatsLength = 48

// eachFlowStats reads one part of a multipart reply and gives its flows to visit. A flow's lists are overwritten by the next one's.
func eachFlowStats(body []byte, visit func(Flow)) (more bool, err error) {
	if len(body) < 8 || be16(body) != multipartFlow {
		return false, fmt.Errorf("%w: multipart reply of %d bytes that has no flows", ErrProtocol, len(body))
	}
	var f Flow
	for b := body[8:]; len(b) > 0; {
		if len(b) < flowStatsLength {
			return false, fmt.Errorf("%w: flow of %d bytes", ErrProtocol, len(b))
		}
		n := int(be16(b))
		if n < flowStatsLength || n > len(b) {
			return false, fmt.Errorf("%w: flow of length %d with %d bytes left", ErrProtocol, n, len(b))
		}
		if err := decodeFlowStats(b[:n], &f); err != nil {
			return false, err
		}
		visit(f)
		b = b[n:]
	}
	return be16(body[2:])&multipartReplyMore != 0, nil
}

// decodeFlowStats reads one flow into f, whose lists it reuses; its values alias b.
func decodeFlowStats(b []byte, f *Flow) error {
	*f = Flow{Table: b[2], Priority: be16(b[12:]), Cookie: be64(b[24:]), Match: f.Match[:0], Actions: f.Actions[:0]}
	timeouts := be32(b[14:]) // idle and hard
	return decodeMatchAndInstructions(b[flowStatsLength:], f, timeouts != 0)
}

// decodeMatchAndInstructions reads what ends a flow's description into f.
func decodeMatchAndInstructions(b []byte, f *Flow, timeouts bool) error {
	if len(b) < 8 || be16(b) != matchTypeOXM {
		return fmt.Errorf("%w: flow without an OXM match", ErrProtocol)
	}
	n := int(be16(b[2:]))
	padded := (n + 7) / 8 * 8
	if n < 4 || padded > len(b) {
		return fmt.Errorf("%w: match of length %d with %d bytes left", ErrProtocol, n, len(b))
	}
	match, unknown, err := decodeMatch(b[4:n], f.Match)
	if err != nil {
		return err
	}
	f.Match = match
	if err := decodeInstructions(b[padded:], f); err != nil {
		return err
	}
	if timeouts {
		f.Opaque = "timeout"
	}
	if unknown != "" {
		// Never nil, as that says that Match is all there is.
		f.Opaque, f.rawMatch = unknown, b[4:n:n]
	}
	return nil
}
