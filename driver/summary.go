package driver

import (
	"cmp"
	"net/netip"
	"slices"
)

// Summary is one network as this host has it.
type Summary struct {
	ID, Name, DockerID string
	VNI                uint32
	Pools              []netip.Prefix
	// Endpoints counts those that have joined here, Peers the other hosts that have any.
	Endpoints, Peers int
	// Engine marks the process that made it, if that may be another Docker Engine than the one that the agent follows.
	Engine string
	// Copied says that it was made here because the cluster has it.
	Copied bool
	// Asked says that -o network=NAME named it.
	Asked bool
	// Cut says why it has no part in the cluster's network, if it has none.
	Cut string
	// Dropped says that the agent began to remove it.
	Dropped bool
	// Removing says that Docker has removed it and the cluster is still to be told.
	Removing bool
}

// Networks tells which networks this host has, sorted by name and id. It waits for nobody but handlers.
func (d *Driver) Networks() []Summary {
	var all []Summary
	for _, n := range d.all() {
		n.mu.Lock()
		s := Summary{
			ID: n.rec.Network, Name: n.rec.Name, DockerID: n.rec.DockerID, VNI: n.rec.VNI,
			Pools: n.rec.Pools, Peers: d.view.Peers(n.rec.Network), Removing: n.rec.Removing, Copied: n.rec.Copied, Engine: n.rec.Engine,
			Asked: n.rec.Asked, Cut: n.rec.Cut, Dropped: n.rec.Dropped,
		}
		for _, e := range n.endpoints {
			if e.Joined {
				s.Endpoints++
			}
		}
		n.mu.Unlock()
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Summary) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Peers counts the other hosts with endpoints on this host's networks, and these endpoints.
func (d *Driver) Peers() (hosts, endpoints int) { return d.view.Count() }
