package mirror

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// forbidden says what of this host's own overlaps one of a network's subnets, with the cure; nothing if nothing does.
func (p *pass) forbidden(pools []netip.Prefix, name string) string {
	for _, pool := range pools {
		if i := slices.IndexFunc(p.uses, func(u store.Use) bool { return u.Forbids(pool) }); i >= 0 {
			return fmt.Sprintf("its subnet %s overlaps %s, which this host uses for %s: remove that network or route here "+
				"(Docker's own bridge: give it another 'bip' in /etc/docker/daemon.json), or choose another subnet for %s",
				pool, p.uses[i].Subnet, p.uses[i], name)
		}
	}
	return ""
}

// overlaps tells of a network that is here whose subnet this host has begun to use for something else. It stays: containers may be
// talking on it.
func (p *pass) overlaps(n dockerwatch.Network, b netview.Network) {
	why := p.forbidden(b.Pools, n.Name)
	p.mu.Lock()
	_, other := p.found[n.Name]
	p.mu.Unlock()
	if why != "" && !other {
		p.trouble(b.ID, n.Name, "%s", why)
	}
}
