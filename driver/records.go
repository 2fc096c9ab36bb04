package driver

import (
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// binding is the journal's record of a Docker network on this host. It repeats what is
// needed to forward without the cluster's store.
type binding struct {
	Schema   int            `json:"schema"`
	DockerID string         `json:"docker_id"`
	Network  string         `json:"network"`
	Name     string         `json:"name,omitempty"`
	VNI      uint32         `json:"vni"`
	Pools    []netip.Prefix `json:"pools"`
	MTU      int            `json:"mtu,omitempty"`
	Internal bool           `json:"internal,omitempty"`
	// IfPrefix begins the names of interfaces in containers, "" for eth.
	IfPrefix string `json:"if_prefix,omitempty"`
	// OwnIPAM says that our IPAM gave the pools; else Docker chooses addresses,
	// and CreateEndpoint claims them.
	OwnIPAM bool `json:"own_ipam,omitempty"`
	// Engine marks the process that made it where that may be another Docker Engine than the one that the agent follows.
	Engine string `json:"engine,omitempty"`
	// Copied is set when the network was made here because the cluster has it.
	Copied bool `json:"copied,omitempty"`
	// Asked is set when -o network=NAME named the cluster's network: Docker's name is another one by intention.
	Asked bool `json:"asked,omitempty"`
	// Unnamed is set until Docker's name of it was compared with the cluster's, where that is done at all: it may be another network that
	// has the same subnets by accident.
	Unnamed bool `json:"unnamed,omitempty"`
	// Cut says why it has no part in the cluster's network any more; see CutOff.
	Cut string `json:"cut,omitempty"`
	// Dropped is set when this host's agent lets go of it, and not its user.
	Dropped bool `json:"dropped,omitempty"`
	// Removing is set when Docker deleted it but the cluster does not know yet.
	Removing bool `json:"removing,omitempty"`
}

// endpoint is the journal's record of an endpoint on this host.
type endpoint struct {
	Schema   int            `json:"schema"`
	ID       string         `json:"id"`
	DockerID string         `json:"docker_id"`
	MAC      dataplane.MAC  `json:"mac"`
	Addrs    []netip.Prefix `json:"addrs"`
	Port     uint32         `json:"port"`
	HostLink string         `json:"host_link"`
	PeerLink string         `json:"peer_link"`
	// IfName is the name of the interface in the container that was asked for, "" for one that Docker makes.
	IfName string `json:"if_name,omitempty"`
	// Reserved are the addresses that this driver claimed, to be released with the endpoint.
	Reserved []netip.Prefix `json:"reserved,omitempty"`
	Joined   bool           `json:"joined,omitempty"`
	// MTU is what its links got when it joined, in bytes; 0 in records of older agents.
	MTU int `json:"mtu,omitempty"`
	// Deleting is set when Docker deleted it but not everything is undone yet.
	Deleting bool      `json:"deleting,omitempty"`
	Created  time.Time `json:"created"`
	// Container is who has it; nil until Docker has told.
	Container *store.Container `json:"container,omitempty"`
	// GaveMAC says that the MAC is our answer and not Docker's wish.
	GaveMAC bool `json:"gave_mac,omitempty"`
}

func (e *endpoint) key() string { return store.LocalEndpointKey(e.DockerID, e.ID) }

// plane is the endpoint as the data plane sees it.
func (e *endpoint) plane() dataplane.Endpoint {
	return dataplane.Endpoint{
		ID: e.ID, MAC: e.MAC, Addrs: addrsOf(e.Addrs), Port: e.Port,
		Attached: e.Joined, MTU: e.MTU, HostLink: e.HostLink, PeerLink: e.PeerLink,
	}
}

// published is the endpoint as other hosts see it.
func (e *endpoint) published() store.Endpoint {
	return store.Endpoint{ID: e.ID, MAC: e.MAC.String(), Addrs: addrsOf(e.Addrs), MTU: e.MTU, Container: e.Container}
}

func addrsOf(prefixes []netip.Prefix) []netip.Addr {
	addrs := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		addrs[i] = p.Addr()
	}
	return addrs
}
