// Package ovsctl keeps SocketPlane's bridge and its ports in Open vSwitch's database as they are
// wanted, and says what the switch reports of them.
//
// It owns the connection to OVSDB and its recovery, the mark by which our rows are told from
// others', and the columns of the bridge, ports and interfaces that carry it. Whatever is there
// without the mark is left alone. It may import libovsdb and ovsctl/vswitch (the generated rows),
// and must not know the store, Docker's protocols, what a network is, or OpenFlow (ovsctl/openflow
// has that, over the socket that Switch.MgmtPath names).
//
// Everything is declarative: a call compares what is wanted with the monitored copy of the
// database, and sends the difference as one transaction that fails rather than overwrites when
// another agent was faster; it is then computed anew.
//
// ovs-vswitchd takes up a change after the transaction; what it made of a port is in PortStatus,
// and WaitPort waits for it.
package ovsctl

import (
	"errors"
	"time"
)

// MarkKey is the key of external_ids that makes a bridge, port or interface ours, whatever its
// value. It is added where a spec does not have it. All keys that begin with it are ours as well:
// those that are no longer wanted are removed, other people's keys stay.
const MarkKey = "socketplane"

var (
	// ErrNotConnected is wrapped by every error whose cause is that ovsdb-server or ovs-vswitchd
	// does not answer. The connection comes back by itself: try again after Switch.Changed.
	//lint:ignore ST1005 a name
	ErrNotConnected = errors.New("Open vSwitch does not answer")

	// ErrForeign is wrapped by the errors about a bridge or port that has a name that we want but
	// not our mark. It is not touched.
	ErrForeign = errors.New("not made by SocketPlane")

	// ErrNoBridge is returned when our bridge is not in the database (EnsureBridge makes it).
	ErrNoBridge = errors.New("bridge does not exist")

	// ErrPort is wrapped by WaitPort's errors about a port that ovs-vswitchd could not make.
	ErrPort = errors.New("ovs-vswitchd could not make the port")

	// ErrBridge is wrapped by EnsureBridge's error about a bridge that ovs-vswitchd could not make.
	ErrBridge = errors.New("ovs-vswitchd could not make the bridge")
)

const (
	// waitLimit bounds every wait for ovsdb-server and for ovs-vswitchd, whatever the context says.
	waitLimit = 5 * time.Second
	// The pause between attempts to connect doubles from the first to the second. A connection that lasted for steadyAfter was a success: a server
	// that accepts and drops is not dialled without a pause.
	backoffMin, backoffMax = 50 * time.Millisecond, 2 * time.Second
	steadyAfter            = 5 * time.Second
	// echoInterval is how often an idle connection is tried: a killed server closes its socket, a
	// hanging one is found only so.
	echoInterval = 5 * time.Second
	// vswitchdInterval is how often ovs-vswitchd is looked for; it leaves no trace in the database
	// when it dies.
	vswitchdInterval = time.Second
	// behindLimit is how long ovs-vswitchd may leave a change alone before it counts as dead, where
	// there is no better sign. A reconfiguration takes it milliseconds.
	behindLimit = 2 * time.Second
	// hangLimit is the same for one whose socket accepts connections: it may be making a thousand ports.
	hangLimit = 10 * time.Second
	// attempts of a transaction that conflicts with another agent's.
	attempts = 5
)
