package adminapi

import (
	"context"
	"net/netip"
	"time"
)

// ClusterOperator is what an Agent implements whose host can be in a cluster of our own. An agent whose state lives in the
// user's Consul, or in a file because there is no consul program, answers with ErrConflict and says so.
// Methods are called concurrently; those that take longer begin, and Cluster tells how far they are.
type ClusterOperator interface {
	// Cluster tells what this host is in which cluster.
	Cluster(ctx context.Context) (ClusterStatus, error)
	// InitCluster founds a cluster on this host without listening for others; ErrConflict if it is in one.
	InitCluster(ctx context.Context, r InitRequest) error
	// JoinCluster begins to join the cluster of other hosts. The host takes its networks along; what forbids that is
	// found before anything changes.
	JoinCluster(ctx context.Context, r JoinRequest) error
	// LeaveCluster begins to leave; ErrConflict, with the containers' names, if some use the cluster's networks. With force
	// it leaves whatever it uses, and even if the others can't be asked.
	LeaveCluster(ctx context.Context, force bool) error
	// SetLocked closes or opens the cluster.
	SetLocked(ctx context.Context, locked bool) error
	// CreateToken makes a token for hosts that are to join; only this answer has its text.
	CreateToken(ctx context.Context, r TokenRequest) (Token, error)
	// Tokens lists the tokens that can still be used, sorted by when they were made.
	Tokens(ctx context.Context) ([]Token, error)
	// RemoveToken makes a token, given by its id, useless.
	RemoveToken(ctx context.Context, id string) error
}

// The states of a host.
const (
	// ClusterForming: it looks for others, and founds a cluster if there are none.
	ClusterForming = "forming"
	// ClusterFounding: it makes a cluster.
	ClusterFounding = "founding"
	// ClusterJoining: it has found a cluster and is about to be a member.
	ClusterJoining = "joining"
	// ClusterMember: it is in.
	ClusterMember = "member"
	// ClusterLeaving: it is about to be out.
	ClusterLeaving = "leaving"
	// ClusterAlone: it has left, and waits for an init or a join.
	ClusterAlone = "alone"
)

// The roles of a member: a server holds the cluster's state and votes, a client asks a server.
const (
	RoleServer = "server"
	RoleClient = "client"
)

// ClusterSummary is a cluster in short.
type ClusterSummary struct {
	// ID is the cluster's; empty while the host is in none.
	ID    string `json:"id,omitempty"`
	State string `json:"state"`
	// Role is what this host is to be; empty while it is in no cluster.
	Role string `json:"role,omitempty"`
	// Locked says that a host needs a token to join.
	Locked bool `json:"locked"`
	// Epoch counts how often the cluster's keys were changed.
	Epoch int `json:"epoch,omitempty"`
	// Servers counts the members that are to be servers.
	Servers int `json:"servers"`
	// Trouble says what keeps the host from the state that it is to have, with the cure; empty if nothing does.
	Trouble string `json:"trouble,omitempty"`
	// Foreign are other clusters that this host hears, sorted by id. They never merge by themselves.
	Foreign []ForeignCluster `json:"foreign,omitempty"`
}

// ClusterStatus is a cluster with its members.
type ClusterStatus struct {
	ClusterSummary
	// Members are sorted by name; those that can't be asked for are left out, and Trouble says why.
	Members []ClusterMemberInfo `json:"members"`
}

// ClusterMemberInfo is one host of the cluster.
type ClusterMemberInfo struct {
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr,omitzero"`
	Role string     `json:"role"`
	// State is ClusterMember or ClusterLeaving.
	State string `json:"state"`
	// Voter says that it counts for a majority now; a server that is catching up does not yet.
	Voter bool `json:"voter"`
	// Alive says that its agent's session lives.
	Alive bool `json:"alive"`
	// Leader says that it is the server that writes.
	Leader bool `json:"leader"`
	// Version is its agent's.
	Version string    `json:"version,omitempty"`
	Joined  time.Time `json:"joined,omitzero"`
}

// ForeignCluster is a cluster of others on this segment.
type ForeignCluster struct {
	ID string `json:"id"`
	// Hosts are HOST:PORT of members that were heard, sorted.
	Hosts []string `json:"hosts"`
}

// InitRequest asks for a new cluster.
type InitRequest struct {
	// Locked: from its beginning a host needs a token.
	Locked bool `json:"locked,omitempty"`
}

// JoinRequest asks to join.
type JoinRequest struct {
	// Addresses are HOST or HOST:PORT of members; with none, the one cluster that is heard.
	Addresses []string `json:"addresses,omitempty"`
	// Token opens a locked cluster.
	Token string `json:"token,omitempty"`
}

// TokenRequest asks for a token.
type TokenRequest struct {
	// Lifetime is in nanoseconds; 0 for one that does not expire.
	Lifetime time.Duration `json:"lifetime,omitempty"`
	// Uses is how many hosts may join with it; 0 for any number.
	Uses int `json:"uses,omitempty"`
}

// Token is a token of a cluster.
type Token struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	// Expires is absent if it does not.
	Expires time.Time `json:"expires,omitzero"`
	// Uses is how many hosts may join with it in all, 0 for any number; Used is how many did.
	Uses int `json:"uses,omitempty"`
	Used int `json:"used"`
	// Text is what a joining host is given; only the answer to CreateToken has it.
	Text string `json:"token,omitempty"`
}

type (
	leaveRequest struct {
		Force bool `json:"force,omitempty"`
	}
	clusterAnswer struct {
		Schema int `json:"schema"`
		ClusterStatus
	}
	tokenAnswer struct {
		Schema int `json:"schema"`
		Token
	}
	tokenList struct {
		Schema int     `json:"schema"`
		Tokens []Token `json:"tokens"`
	}
)

const (
	pathCluster = "/v1/cluster"
	pathTokens  = pathCluster + "/tokens"
)
