package netview

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/store"
)

// Endpoint is one endpoint as this host knows it. It is never changed.
type Endpoint struct {
	ID    string
	MAC   dataplane.MAC
	Addrs []netip.Addr
	// LinkLocal are its link-local addresses, also those that another endpoint owns.
	LinkLocal []netip.Addr
	// Container is the name of the container that has it, "" while Docker has not told.
	Container string
	part      uint16 // of its host's parts, 0 in the form of the first layout
}

// same says whether both are one endpoint to consumers; its part is not their matter.
func (e Endpoint) same(o Endpoint) bool {
	return e.ID == o.ID && e.MAC == o.MAC && e.Container == o.Container && slices.Equal(e.Addrs, o.Addrs) && slices.Equal(e.LinkLocal, o.LinkLocal)
}

// parse reads records of endpoints of a part, once, sorted by their IDs. An endpoint that can't be understood is left out: the others must not suffer from it.
func parse(records []store.Endpoint, part int) []Endpoint {
	all := make([]Endpoint, 0, len(records))
	for _, r := range records {
		hw, err := net.ParseMAC(r.MAC)
		if err != nil || len(hw) != len(dataplane.MAC{}) {
			continue
		}
		e := Endpoint{ID: r.ID, MAC: dataplane.MAC(hw), Addrs: r.Addrs, LinkLocal: LinkLocal(r.Container), part: uint16(part)}
		if r.Container != nil {
			e.Container = r.Container.Name
		}
		all = append(all, e)
	}
	slices.SortFunc(all, byID)
	return slices.CompactFunc(all, sameID)
}

func byID(a, b Endpoint) int { return strings.Compare(a.ID, b.ID) }

func sameID(a, b Endpoint) bool { return a.ID == b.ID }

// LinkLocal are a container's link-local addresses (docker run --link-local-ip), as far as Docker has told.
func LinkLocal(c *store.Container) []netip.Addr {
	if c == nil {
		return nil
	}
	var addrs []netip.Addr
	for _, a := range c.LinkLocal { // of other hosts, too: whatever they are, no others are taken
		if a.IsLinkLocalUnicast() {
			addrs = append(addrs, a.Unmap().WithZone(""))
		}
	}
	return addrs
}

// diff calls gone and set for what differs between two lists that are sorted by ID; an endpoint that is changed is in both.
func diff(old, now []Endpoint, gone, set func(*Endpoint)) {
	for i, k := 0, 0; i < len(old) || k < len(now); {
		switch {
		case k == len(now) || i < len(old) && old[i].ID < now[k].ID:
			gone(&old[i])
			i++
		case i == len(old) || now[k].ID < old[i].ID:
			set(&now[k])
			k++
		default:
			if !old[i].same(now[k]) {
				gone(&old[i])
				set(&now[k])
			}
			i, k = i+1, k+1
		}
	}
}
