package adminapi

import (
	"context"
	"net/netip"
	"time"
)

// Schema is the version of Info's shape.
const Schema = 1

// Agent is what the handler needs. Both methods are called concurrently and must return soon after ctx is done.
type Agent interface {
	// Info tells how the agent does. Trouble with the store or the switch is part of Info, not an error.
	Info(ctx context.Context) (Info, error)
	// Ready returns nil if networks work on this host now, else why not and what to do.
	Ready(ctx context.Context) error
}

// Info is how an agent does. The handler sets Schema.
type Info struct {
	Schema  int       `json:"schema"`
	Version string    `json:"version"`
	Commit  string    `json:"commit"`
	Go      string    `json:"go"`
	Started time.Time `json:"started"`
	// Trouble is what keeps the agent from starting, or a socket from being served, and the cure; empty if all is well. While
	// the agent can't start, only its version and the host's name are known.
	Trouble string `json:"trouble,omitempty"`
	Host    Host   `json:"host"`
	Store   Store  `json:"store"`
	OVS     OVS    `json:"ovs"`
	// Cluster is absent where the host forms none by itself.
	Cluster *ClusterSummary `json:"cluster,omitempty"`
	// Networks are all that the agent knows of, sorted by name, those without a name last by ID.
	Networks []Network `json:"networks"`
	// Hosts are all of the cluster with this one, sorted by name.
	Hosts []Member `json:"hosts"`
}

// Host is the agent's own host.
type Host struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// VTEP is the tunnel address; absent while it is not known.
	VTEP netip.Addr `json:"vtep,omitzero"`
	// Underlay is the device that has the VTEP address.
	Underlay string `json:"underlay,omitempty"`
	// MTU is the underlay's, in bytes; 0 while it is not known.
	MTU int `json:"mtu,omitempty"`
	// ContainerMTU is what every host of the cluster can carry: what containers on networks without an MTU of their own get.
	ContainerMTU int `json:"container_mtu,omitempty"`
}

// Store is where the cluster's state lives.
type Store struct {
	// Kind is "consul", "cluster" or "bolt".
	Kind string `json:"kind"`
	// Address is Consul's address or the file's path.
	Address string `json:"address,omitempty"`
	// Alone says that no other host can share this store.
	Alone bool `json:"alone"`
	// Error is empty while the store answers.
	Error string `json:"error,omitempty"`
}

// OVS is the switch of this host.
type OVS struct {
	Version string `json:"version,omitempty"`
	// Datapath is "system" or "netdev".
	Datapath string `json:"datapath,omitempty"`
	// Tunnel is "ovs" or "kernel".
	Tunnel string `json:"tunnel,omitempty"`
	Bridge string `json:"bridge,omitempty"`
	// TSO says that userspace-tso-enable is in force; it matters on netdev only.
	TSO bool `json:"tso"`
	// Error is empty while the switch forwards what it should.
	Error string `json:"error,omitempty"`
}

// Network is one of the cluster's networks as this host sees it.
type Network struct {
	ID    string         `json:"id"`
	Name  string         `json:"name,omitempty"`
	VNI   uint32         `json:"vni"`
	Pools []netip.Prefix `json:"pools"`
	// Endpoints counts the endpoints on this host.
	Endpoints int `json:"endpoints"`
	// Peers counts the other hosts with endpoints on this network.
	Peers int `json:"peers"`
}

// Member is one host of the cluster.
type Member struct {
	ID   string     `json:"id"`
	Name string     `json:"name"`
	VTEP netip.Addr `json:"vtep,omitzero"`
	// Alive says that its agent's session lives; containers of a host that is not alive may well talk.
	Alive bool `json:"alive"`
	// Version is its agent's.
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Subnets are its connected routes.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
}

// failure is the body of every answer other than 200.
type failure struct {
	Error string `json:"error"`
}

// status is the body of a healthy answer.
type status struct {
	Status string `json:"status"`
}

const (
	pathInfo   = "/v1/info"
	pathHealth = "/healthz"
	pathReady  = "/readyz"
)
