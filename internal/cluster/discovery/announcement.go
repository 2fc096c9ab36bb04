package discovery

import (
	"net/netip"
	"time"
)

// State is what a host says of itself.
type State string

// The states. Only Candidate and Founding pass quickly, so they are repeated often and forgotten soon.
const (
	// Candidate has no cluster and looks for one.
	Candidate State = "candidate"
	// Founding makes a new cluster in this moment.
	Founding State = "founding"
	// Member is in a cluster.
	Member State = "member"
)

// Announcement is what a host says of itself. Nothing in it is secret.
type Announcement struct {
	// Host is the host's id; Name is for people.
	Host, Name string
	State      State
	// Cluster is the id of the cluster, with Founding and Member.
	Cluster string
	// Locked says that a token is needed to join.
	Locked bool
	// Addr and Port are where hosts are admitted.
	Addr netip.Addr
	Port uint16
}

// Peer is another host as it was last heard.
type Peer struct {
	Announcement
	// Seen is when it was last heard, First since when it has been heard without a gap.
	Seen, First time.Time

	expires time.Time
}

// rhythm is how often a state is repeated, and for how long it is believed.
type rhythm struct {
	every time.Duration
	ttl   time.Duration // whole seconds, as DNS has it
}

func (s State) rhythm() rhythm {
	if s == Member {
		return rhythm{every: 30 * time.Second, ttl: 100 * time.Second}
	}
	return rhythm{every: 700 * time.Millisecond, ttl: 4 * time.Second}
}
