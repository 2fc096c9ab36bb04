package adminapi

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Errors that cross the socket; an Operator wraps them and the client's errors match them.
var (
	// ErrNotFound says that there is no such network, host or container.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that the state of the cluster forbids it.
	ErrConflict = errors.New("conflict")
	// ErrInvalid says that the request can never succeed.
	ErrInvalid = errors.New("invalid")
)

// Operator is what an Agent implements to answer all commands. Methods are called concurrently.
type Operator interface {
	// Networks gives each of the cluster's networks, sorted by name, those without last by ID, and ends with the first error of each. Addresses are
	// left out: they are told of one network that is asked for alone.
	Networks(ctx context.Context, each func(NetworkDetail) error) error
	// Network is one network, given by name, ID, or the beginning of one network's ID.
	Network(ctx context.Context, network string) (NetworkDetail, error)
	// CreateNetwork makes a network for all hosts; they have it a moment later.
	CreateNetwork(ctx context.Context, r NetworkRequest) (NetworkDetail, error)
	// RemoveNetwork begins to remove a network, given by name or ID, from all hosts.
	RemoveNetwork(ctx context.Context, network string) error
	// AttachNetwork makes this host have a network again that it let go of.
	AttachNetwork(ctx context.Context, network string) error
	// RemoveHost removes a host, given by name or ID, that will not come back.
	RemoveHost(ctx context.Context, host string) error
	// Inspect is Network that gives each of its endpoints before it returns, in no order, and ends with the first error of each.
	Inspect(ctx context.Context, network string, each func(Endpoint) error) (NetworkDetail, error)
	// Endpoints gives each of all hosts' endpoints in no order, and ends with the first error of each. With a network's name or
	// ID only those on it are meant; one that is not there has none.
	Endpoints(ctx context.Context, network string, each func(Endpoint) error) error
	// Doctor looks at this host.
	Doctor(ctx context.Context) ([]Check, error)
}

// NetworkRequest asks for a network.
type NetworkRequest struct {
	Name string `json:"name"`
	// Subnets may be empty: then one is chosen, and one of IPv6 if IPv6 is set.
	Subnets  []netip.Prefix    `json:"subnets,omitempty"`
	Ranges   []netip.Prefix    `json:"ranges,omitempty"`
	Gateways []netip.Addr      `json:"gateways,omitempty"`
	Aux      map[string]string `json:"aux,omitempty"`
	IPv6     bool              `json:"ipv6,omitempty"`
	Internal bool              `json:"internal,omitempty"`
	// MTU is in bytes; 0 for what each host's underlay allows, or what Options say, of which it is one: the command line gives it there.
	MTU    int               `json:"mtu,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	// Options are those of 'docker network create -o'.
	Options map[string]string `json:"options,omitempty"`
}

// NetworkDetail is all that is known of a network.
type NetworkDetail struct {
	ID    string         `json:"id"`
	Name  string         `json:"name,omitempty"`
	VNI   uint32         `json:"vni"`
	Pools []netip.Prefix `json:"pools"`
	MTU   int            `json:"mtu,omitempty"`
	// ContainerMTU is what containers that join now get, in bytes; 0 if the agent does not tell.
	ContainerMTU int `json:"container_mtu,omitempty"`
	// MTUNotes say which containers have another MTU, and which hosts can't carry MTU, a line each.
	MTUNotes []string `json:"mtu_notes,omitempty"`
	Internal bool     `json:"internal"`
	IPv6     bool     `json:"ipv6"`
	// Shared says that all hosts are to have it; a network that was made by hand on each host is not.
	Shared bool `json:"shared"`
	// State is "active" or "deleting".
	State   string            `json:"state"`
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Hosts are all of the cluster, sorted by name.
	Hosts []NetworkHost `json:"hosts"`
	// Endpoints counts those of all hosts.
	Endpoints int `json:"endpoints"`
	// Addresses tells which hosts have how much of each pool, in the order of Pools and of hosts' names.
	Addresses []AddressUse `json:"addresses,omitempty"`
	// Trouble says what keeps this host from having the network as the cluster has it, and the cure.
	Trouble string `json:"trouble,omitempty"`
	// Note is what happened to it on the host that answers, and is no trouble.
	Note string `json:"note,omitempty"`
}

// What AddressUse.Host says where the addresses are no host's.
const (
	// UseNetwork stands for gateway and auxiliary addresses, which all hosts share.
	UseNetwork = "network"
	// UseSwarm stands for the addresses that Swarm's manager has chosen for tasks.
	UseSwarm = "swarm"
)

// AddressUse is what one host has of a pool.
type AddressUse struct {
	Pool netip.Prefix `json:"pool"`
	// Host is the host's id, or UseNetwork or UseSwarm.
	Host string `json:"host"`
	Name string `json:"name,omitempty"`
	// HandedOut counts containers' addresses, Static those of them that were asked for by name, Resting those released a
	// moment ago, Spare those that can be handed out without asking anybody.
	HandedOut int `json:"handed_out"`
	Static    int `json:"static"`
	Resting   int `json:"resting"`
	Spare     int `json:"spare"`
	// Here says that it is this agent's host; Static and Resting of others are as these told some seconds ago.
	Here bool `json:"here,omitempty"`
}

// NetworkHost is a host as a network sees it.
type NetworkHost struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// State is "present", "absent", or "away" when its user removed the network there.
	State string `json:"state"`
	// DockerID is the id that the host's Docker has given the network.
	DockerID  string `json:"docker_id,omitempty"`
	Endpoints int    `json:"endpoints"`
	Alive     bool   `json:"alive"`
}

// Endpoint is one container's place on a network.
type Endpoint struct {
	ID        string       `json:"id"`
	Network   string       `json:"network,omitempty"`
	NetworkID string       `json:"network_id"`
	Host      string       `json:"host"`
	HostID    string       `json:"host_id"`
	MAC       string       `json:"mac"`
	Addrs     []netip.Addr `json:"addrs"`
	// Container and what follows are empty until Docker has told.
	Container   string            `json:"container,omitempty"`
	ContainerID string            `json:"container_id,omitempty"`
	Aliases     []string          `json:"aliases,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// The states of a Check.
const (
	CheckOK   = "ok"
	CheckWarn = "warning"
	CheckBad  = "error"
	// CheckUnknown says that the doctor could not look.
	CheckUnknown = "unknown"
)

// Check is one thing that the doctor looked at.
type Check struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// Text is what was found: Saw and Follows in one.
	Text string `json:"text"`
	// Looked is at what the doctor looked, Saw what it saw there, Follows what that means; Follows may be empty.
	Looked  string `json:"looked_at,omitempty"`
	Saw     string `json:"saw,omitempty"`
	Follows string `json:"follows,omitempty"`
	// NotApplicable says that there is nothing to look at on this host; State is CheckOK then, and Saw says why.
	NotApplicable bool `json:"not_applicable,omitempty"`
	// Cure is the command or setting that mends it; empty if all is well.
	Cure string `json:"cure,omitempty"`
	// Took is how long the check took, in nanoseconds.
	Took time.Duration `json:"took"`
}

// networkList and the like are the answers' bodies.
type (
	checkList struct {
		Schema int     `json:"schema"`
		Checks []Check `json:"checks"`
	}
)

const (
	pathNetworks  = "/v1/networks"
	pathHosts     = "/v1/hosts"
	pathEndpoints = "/v1/endpoints"
	pathDoctor    = "/v1/doctor"
)
