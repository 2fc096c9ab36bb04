package openflow

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is what pending and later calls of a connection return that was
	// closed, broke, or to a switch that went silent. Dial again.
	ErrClosed = errors.New("OpenFlow connection closed")
	// ErrInvalid is returned for a flow that has no wire form; nothing was changed.
	ErrInvalid = errors.New("flow can't be encoded")
	// ErrProtocol is returned for an answer that breaks the protocol's rules.
	ErrProtocol = errors.New("malformed OpenFlow message")
	// ErrVersion is returned for a bridge that does not speak OpenFlow 1.4.
	ErrVersion = errors.New("bridge does not speak OpenFlow 1.4: add OpenFlow14 to the column protocols of its Bridge record")
)

// Error is what the switch has against a request.
type Error struct {
	// Type and Code are those of OpenFlow 1.4 §7.5.4. Of an extension, Type is
	// 0xffff, Code the extension's and Experimenter its owner.
	Type, Code   uint16
	Experimenter uint32
	// Subject is the flow, or the request, that the switch refuses.
	Subject string
	// More counts other changes that were refused in the same call.
	More int
	// Flows are the flows that the switch refused in this call, the subject's first. It may have refused no other, and looked no further:
	// what it can't read it says of each, what it can't apply of the first.
	Flows []Flow
}

// FlowError is the error of a flow that has no wire form; it wraps ErrInvalid.
type FlowError struct {
	Flow Flow
	Err  error
}

// Error is that of the flow.
func (e *FlowError) Error() string { return e.Err.Error() }

// Unwrap gives ErrInvalid.
func (e *FlowError) Unwrap() error { return e.Err }

// Refused are the flows on account of which a call failed, none if it failed for another reason. The rest of the change may be
// tried again without them; it may have others that were not looked at.
func Refused(err error) []Flow {
	var flows []Flow
	switch e := err.(type) {
	case nil:
	case *Error:
		flows = e.Flows
	case *FlowError:
		flows = []Flow{e.Flow}
	case interface{ Unwrap() []error }: // Fill's, of several connections
		for _, one := range e.Unwrap() {
			flows = append(flows, Refused(one)...)
		}
	default:
		return Refused(errors.Unwrap(err))
	}
	return flows
}

// Error names the subject, the cause by its names in OpenFlow, and how many more.
func (e *Error) Error() string {
	s := fmt.Sprintf("Open vSwitch refuses %s: %s %s", e.Subject, e.TypeName(), e.CodeName())
	if e.More > 0 {
		s += fmt.Sprintf(" (and %d other changes)", e.More)
	}
	return s
}

// TypeName is the error's class, such as OFPET_BAD_MATCH.
func (e *Error) TypeName() string {
	if name, ok := errorTypes[e.Type]; ok {
		return name
	}
	return fmt.Sprintf("error type %d", e.Type)
}

// CodeName is the error itself, such as OFPBMC_BAD_PREREQ.
func (e *Error) CodeName() string {
	if e.Type == errorExperimenter && e.Experimenter == nicira {
		if name, ok := niciraErrors[e.Code]; ok {
			return name
		}
	}
	if names := errorCodes[e.Type]; int(e.Code) < len(names) {
		return names[e.Code]
	}
	return fmt.Sprintf("code %d", e.Code)
}

// decodeError reads the body of an error message.
func decodeError(body []byte, subject string) error {
	if len(body) < 4 {
		return fmt.Errorf("%w: error of %d bytes for %s", ErrProtocol, len(body), subject)
	}
	e := &Error{Type: be16(body), Code: be16(body[2:]), Subject: subject}
	if e.Type == errorExperimenter && len(body) >= 8 {
		e.Experimenter = be32(body[4:])
	}
	return e
}
