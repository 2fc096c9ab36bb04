package mirror

import "github.com/socketplane/socketplane/internal/dockerwatch"

// duplicates tells of containers here whose link-local address another container of the network has.
func (p *pass) duplicates(here []dockerwatch.Network) {
	names := map[string]string{}
	for _, n := range here {
		names[n.ID] = n.Name
	}
	for _, d := range p.driver.Duplicates() {
		if name, ok := names[d.Network]; ok {
			p.trouble(p.bound[d.Network].ID, name, "the link-local address %s of container %s is that of %s, which has it: "+
				"give one of them another --link-local-ip", d.Addr, d.Container, d.Owner)
		}
	}
}
