package netview

import (
	"net/netip"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// HasMAC returns a host that has an endpoint with this MAC on the network, "" if none is known.
func (v *View) HasMAC(network string, mac dataplane.MAC) (host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tables[network]; t != nil {
		if p := t.macs.one[mac]; p != nil {
			return p.host
		}
	}
	return ""
}

// Owner is who has a link-local address on a network: an endpoint's ID, its container's name, and its host, "" for this one.
type Owner struct{ Endpoint, Container, Host string }

// LinkLocalOwner returns who has a link-local address on a network.
func (v *View) LinkLocalOwner(network string, addr netip.Addr) (o Owner, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tables[network]
	if t == nil || len(t.claims[addr]) == 0 {
		return Owner{}, false
	}
	c := t.claims[addr][0]
	return Owner{c.endpoint, c.container, c.host}, true
}

// Peers counts the other hosts with endpoints on a network.
func (v *View) Peers(network string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.tables[network]; t != nil {
		return len(t.peers)
	}
	return 0
}

// Count counts the other hosts with endpoints on this host's networks, and these endpoints.
func (v *View) Count() (hosts, endpoints int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := map[string]bool{}
	for _, t := range v.tables {
		for host := range t.peers {
			seen[host] = true
		}
	}
	return len(seen), v.remote
}
