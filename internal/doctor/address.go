package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

// sameAddress looks whether there can be a tunnel between two addresses.
func (w Way) sameAddress(u Underlay, p Peer) (Finding, bool) {
	switch {
	case !p.VTEP.IsValid():
		return Error("the host has published no tunnel address", "its containers can't be reached", "run 'socketplane doctor' on "+p.Name), true
	case !u.Addr.IsValid():
		return Unknown("this host has no tunnel address", "see the tunnel address"), true
	case p.VTEP == u.Addr && !p.Alive:
		return formerly(p, "this host has"), true
	case p.VTEP == u.Addr:
		return Error(fmt.Sprintf("the host has this host's own tunnel address %s", p.VTEP), "this host answers itself, and packets reach only one of the two",
			"give each host an address of its own with --advertise, and restart its agent"), true
	case p.VTEP.Is4() != u.Addr.Is4():
		return otherFamily(u, p), true
	}
	return Finding{}, false
}

// shared says that several other hosts have one address. The record of a host whose agent is down says nothing against one that is up: a machine
// whose state was removed has a new id, and its former one's record stays for a while.
func shared(p Peer, peers []Peer) (Finding, bool) {
	var up []string
	for _, other := range peers {
		if other.VTEP == p.VTEP && other.Alive {
			up = append(up, other.Name)
		}
	}
	switch {
	case !p.VTEP.IsValid():
	case !p.Alive && len(up) > 0:
		return formerly(p, "host "+strings.Join(up, " and ")+" has"), true
	case len(up) > 1:
		return Error(fmt.Sprintf("the hosts %s have the same tunnel address %s", strings.Join(up, " and "), p.VTEP), "packets reach only one of them",
			"give each host an address of its own with --advertise, and restart its agent"), true
	}
	return Finding{}, false
}

// formerly is the verdict on a host whose agent is down and whose address another host has, who is named with "has" or "have".
func formerly(p Peer, who string) Finding {
	return Warning(fmt.Sprintf("%s the tunnel address %s of %s (id %s), whose agent is down: that is the same machine's former record, or a host that is off", who, p.VTEP, p.Name, p.ID),
		"nothing while it is off", fmt.Sprintf("socketplane host rm %s (if it will not come back); else give it an address of its own with --advertise", p.ID))
}

// otherFamily is the verdict on a host to which there can be no tunnel; the data plane leaves it out.
func otherFamily(u Underlay, p Peer) Finding {
	saw := fmt.Sprintf("this host's tunnel address %s is %s, that of %s, %s, is %s: a tunnel needs two of one family, so there is none", u.Addr, family(u.Addr), p.Name, p.VTEP, family(p.VTEP))
	const follows = "containers here and there do not reach each other"
	if !p.Alive {
		return Warning(saw+"; its agent is down", follows, fmt.Sprintf("socketplane host rm %s (if it will not come back); else give both an address of one family with --advertise, and restart their agents", p.ID))
	}
	return Error(saw, follows, fmt.Sprintf("give both hosts an address of one family: set --advertise (SOCKETPLANE_ADVERTISE) to an %s address here, or to an %s address on %s, and restart that agent",
		family(p.VTEP), family(u.Addr), p.Name))
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
