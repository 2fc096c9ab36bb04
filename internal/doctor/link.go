package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Underlay is where this host's tunnels end, as the agent knows it; the zero value while it knows none.
type Underlay struct {
	Addr netip.Addr
	Dev  string
	MTU  int
	// Err says what is wrong with it now.
	Err error
}

// Address looks at the address of this host's tunnels: on which link it is, whether that can send, whether another host has it too.
type Address struct {
	Links    Links
	Underlay func() Underlay
	// Hosts are the other hosts of the cluster.
	Hosts func(context.Context) ([]Peer, error)
	// Stations asks a link's segment for the MACs of all that have an IPv4 address of this host.
	Stations func(ctx context.Context, dev string, own netip.Addr) ([]string, error)
	// Restart restarts the agent.
	Restart string
}

// stationsAnswer is how long other machines may take to say that they have this host's address.
const stationsAnswer = 200 * time.Millisecond

// segment looks whether a machine that is no host of the cluster has the address too. It says what was seen; "" where it can't be asked.
func (a Address) segment(ctx context.Context, u Underlay, link Link, links []Link) (saw string, f Finding, bad bool) {
	ctx, cancel := context.WithTimeout(ctx, stationsAnswer)
	defer cancel()
	if !u.Addr.Is4() || a.Stations == nil {
		return "", Finding{}, false
	}
	macs, err := a.Stations(ctx, link.Name, u.Addr)
	if err != nil {
		return "", Finding{}, false // the link has no ARP, as loopback and tunnels
	}
	for _, mac := range macs {
		if slices.ContainsFunc(links, func(l Link) bool { return l.MAC == mac }) {
			continue // another NIC of this host in the same segment
		}
		return "", Error(fmt.Sprintf("another machine on the segment of %s, with the MAC %s, has this host's tunnel address %s too", link.Name, mac, u.Addr),
			"packets for this host may go to it", "find the machine with that MAC (the tables of the segment's switches know its port) and give it or this host another address"), true
	}
	return ", and nobody else on its segment", Finding{}, false
}

// Check is the check.
func (a Address) Check() Check {
	return Check{Name: nameAddress, Looks: "the link that has this host's tunnel address, and who else has that address, of the cluster's hosts and on the link's segment", Look: func(ctx context.Context) Finding {
		u := a.Underlay()
		if !u.Addr.IsValid() {
			saw := "this host has no address for tunnels"
			if u.Err != nil {
				saw = u.Err.Error()
			}
			return Error(saw, "its containers reach no other host", "give one of its addresses with --advertise ADDRESS, or bring up its network; see 'ip address'")
		}
		links, err := a.Links()
		if err != nil {
			return Unknown(err.Error(), "")
		}
		link, there := having(links, u.Addr)
		if !there {
			return Error(fmt.Sprintf("no link of this host has its tunnel address %s (it was on %s)", u.Addr, u.Dev), "packets of other hosts do not arrive",
				fmt.Sprintf("give the address back to %s, or set --advertise to one that the host has, and %s", u.Dev, a.Restart))
		}
		if f, bad := down(link); bad {
			return f
		}
		hosts, err := a.Hosts(ctx)
		var former *Peer
		for _, h := range hosts {
			switch {
			case h.VTEP == u.Addr && !h.Alive:
				former = &h
			case h.VTEP == u.Addr:
				return Error(fmt.Sprintf("host %s (id %s) has the tunnel address %s too", h.Name, h.ID, u.Addr), "packets reach only one of the two",
					"give each host an address of its own with --advertise, and "+a.Restart)
			}
		}
		if former != nil {
			return formerly(*former, "this host has")
		}
		segment, f, bad := a.segment(ctx, u, link, links)
		if bad {
			return f
		}
		saw := fmt.Sprintf("%s on %s, MTU %d", u.Addr, link.Name, link.MTU)
		if err != nil {
			return Unknown(saw+"; whether another host of the cluster has it is not known: "+err.Error(), "see the store")
		}
		return OK("%s; no other host of the cluster has it%s", saw, segment)
	}}
}

// down says what keeps a link from sending.
func down(l Link) (Finding, bool) {
	switch {
	case !l.Up:
		return Error(fmt.Sprintf("link %s is down", l.Name), "no packet leaves or reaches this host by it", "ip link set "+l.Name+" up"), true
	case !l.Carrier:
		return Error(fmt.Sprintf("link %s is up but has no carrier", l.Name), "no packet leaves or reaches this host by it",
			"look at the cable, the switch's port or the virtual machine's network of "+l.Name), true
	}
	return Finding{}, false
}

// gatewayBridge is Docker's bridge for everything outside our networks.
const gatewayBridge = "docker_gwbridge"

// Gateway looks at docker_gwbridge: it must not send larger packets than the link takes by which they leave the host. outward is that
// link, empty if it is not known. made says how Docker has that network; nil where Docker can't be asked.
func Gateway(links Links, outward func(context.Context) (dev string, mtu int, err error), made func(context.Context) (GatewayNetwork, error)) Check {
	const looks = "whether the link docker_gwbridge is there if Docker has that network, is up and has an address, whether it keeps containers apart, and its MTU and that of the link by which packets to the outside leave"
	return Check{Name: nameGateway, Looks: looks, Look: func(ctx context.Context) Finding {
		all, err := links()
		if err != nil {
			return Unknown(err.Error(), "")
		}
		bridge, there := named(all, gatewayBridge)
		if !there {
			if f, bad := lostGateway(ctx, made); bad {
				return f
			}
			return NotApplicable("Docker has not made docker_gwbridge yet; it does with the first container of a network that is not --internal")
		}
		if !bridge.Up {
			return Error("docker_gwbridge is down", withoutGateway, "ip link set docker_gwbridge up")
		}
		if !slices.ContainsFunc(bridge.Addrs, func(a netip.Prefix) bool { return !a.Addr().IsLinkLocalUnicast() }) {
			return Error("docker_gwbridge has no address: the containers' default gateway is not there", withoutGateway, restoreGateway)
		}
		dev, mtu, err := outward(ctx)
		if err != nil {
			return Unknown(err.Error(), "")
		}
		if dev == "" {
			return Unknown("the host has no default route and no tunnel address", "see the tunnel address")
		}
		if bridge.MTU > mtu {
			return Error(fmt.Sprintf("the MTU of docker_gwbridge is %d, that of %s, by which packets to the outside leave, only %d", bridge.MTU, dev, mtu),
				"large packets of containers to the outside are lost, so that connections begin and then hang",
				fmt.Sprintf("ip link set docker_gwbridge mtu %d, and for containers to come make it with that MTU: %s", mtu, remakeGateway(mtu)))
		}
		if f, bad := openGateway(ctx, made, mtu); bad {
			return f
		}
		return OK("up, MTU %d; that of %s, by which packets to the outside leave, is %d", bridge.MTU, dev, mtu)
	}}
}

// What follows where docker_gwbridge does not work, and what makes it again: Docker makes the links of its networks when it starts.
const (
	withoutGateway = "containers do not reach anything outside their networks, and published ports do not work"
	restoreGateway = "systemctl restart docker (it makes the bridge and its address again, and stops the containers unless it runs with live-restore); then start the containers again; " +
		"see which program changes Docker's links, such as a network manager"
)

// GatewayNetwork is Docker's network docker_gwbridge.
type GatewayNetwork struct {
	// There says that Docker has it, Open that containers on it reach each other.
	There, Open bool
}

// remakeGateway are the commands that make docker_gwbridge with another MTU, as Docker does with its default.
func remakeGateway(mtu int) string {
	return fmt.Sprintf("docker network rm docker_gwbridge while no container uses it; docker network create -d bridge -o com.docker.network.bridge.name=docker_gwbridge "+
		"-o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.enable_ip_masquerade=true -o com.docker.network.driver.mtu=%d docker_gwbridge", mtu)
}

// openGateway is for a bridge that was made without the option with which Docker makes it: by it containers of all networks reach each other.
func openGateway(ctx context.Context, made func(context.Context) (GatewayNetwork, error), mtu int) (Finding, bool) {
	if made == nil {
		return Finding{}, false
	}
	switch n, err := made(ctx); {
	case err != nil:
		return Unknown("Docker does not say how docker_gwbridge was made: "+err.Error(), "see Docker"), true
	case n.Open:
		return Warning("docker_gwbridge was made without com.docker.network.bridge.enable_icc=false", "containers of different networks on this host reach each other by their addresses on it",
			"make it again: "+remakeGateway(mtu)), true
	}
	return Finding{}, false
}

// lostGateway is for a host without the link: Docker made it, and another program removed it.
func lostGateway(ctx context.Context, made func(context.Context) (GatewayNetwork, error)) (Finding, bool) {
	if made == nil {
		return Finding{}, false
	}
	switch n, err := made(ctx); {
	case err != nil:
		return Unknown("there is no link docker_gwbridge, and Docker does not say whether it made one: "+err.Error(), "see Docker"), true
	case n.There:
		return Error("Docker has the network docker_gwbridge, but its link is gone: something else removed it", withoutGateway, restoreGateway), true
	}
	return Finding{}, false
}

// NetworkPools are the pools of a network that this host has.
type NetworkPools struct {
	Name  string
	Pools []netip.Prefix
}

// Subnets looks for links of this host whose subnets overlap those of networks that it has. ours says which links are SocketPlane's.
func Subnets(links Links, networks func() []NetworkPools, ours func(link string) bool) Check {
	return Check{Name: nameSubnets, Looks: "the addresses of this host's links and the subnets of its networks", Look: func(context.Context) Finding {
		all, err := links()
		if err != nil {
			return Unknown(err.Error(), "")
		}
		var found []string
		for _, l := range all {
			if ours(l.Name) {
				continue
			}
			for _, a := range l.Addrs {
				for _, n := range networks() {
					if i := slices.IndexFunc(n.Pools, a.Masked().Overlaps); i >= 0 && !a.Addr().IsLoopback() && !a.Addr().IsLinkLocalUnicast() {
						found = append(found, fmt.Sprintf("%s of %s overlaps %s of network %s", a.Masked(), l.Name, n.Pools[i], n.Name))
					}
				}
			}
		}
		if len(found) > 0 {
			return Warning(strings.Join(found, "; "), "containers of these networks do not reach what is behind those links, and this host does not reach them",
				"give the link or the network another subnet; a network is made again by 'docker network rm' and 'docker network create --subnet'")
		}
		return OK("none overlap")
	}}
}
