package driver

import (
	"github.com/socketplane/socketplane/ipamdriver"
)

// Held lists the addresses that this host's endpoints have, as its own store remembers them: what address
// management must not give to others, should it have lost its own journal.
func (d *Driver) Held() []ipamdriver.Held {
	var held []ipamdriver.Held
	for _, n := range d.all() {
		n.mu.Lock()
		for _, e := range n.endpoints {
			addrs := e.Addrs
			if !n.rec.OwnIPAM {
				addrs = e.Reserved // also those that are still to be released
			}
			for _, p := range addrs {
				if pool, ok := n.poolOf(p.Addr()); ok {
					held = append(held, ipamdriver.Held{Pool: pool, Addr: p.Addr(), MAC: e.MAC.String(), Static: !n.rec.OwnIPAM})
				}
			}
		}
		n.mu.Unlock()
	}
	return held
}
