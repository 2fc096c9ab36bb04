package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// TunnelPort looks for others that use the UDP port of the tunnels.
type TunnelPort struct {
	Port uint16
	// Tunnel is the kind of tunnel in use: kernel or ovs; empty while it is not chosen.
	Tunnel func() string
	// Others are the kernel's VXLAN devices on the port that are not ours.
	Others func(context.Context) ([]VXLANUser, error)
	// Swarm is what Docker says of its swarm; nil without Docker's API.
	Swarm func(context.Context) (Swarm, error)
}

// VXLANUser is a VXLAN device of another program.
type VXLANUser struct {
	Name string
	// Exclusive devices share their port with none of ours: they take all that comes to it, or read packets in another way.
	Exclusive bool
}

// Swarm is the state of Docker's swarm on this host.
type Swarm struct {
	Active bool
	// Port is that of its overlay networks; 0 if this node is not told, which then is 4789 unless the swarm was made with another.
	Port uint16
}

// swarmPort is Swarm's default data path port.
const swarmPort = 4789

// Check is the check.
func (p TunnelPort) Check() Check {
	return Check{Name: nameTunnelPort, Looks: fmt.Sprintf("VXLAN devices of others on UDP port %d, and the port of Docker's swarm", p.Port), Look: func(ctx context.Context) Finding {
		others, err := p.Others(ctx)
		if err != nil {
			return Unknown(err.Error(), "")
		}
		var shared []string
		for _, o := range others {
			if o.Exclusive || p.Tunnel() == "ovs" {
				return Error(fmt.Sprintf("link %s of another program receives VXLAN on UDP port %d", o.Name, p.Port),
					"the kernel gives the port to one of the two, and the other's networks reach no other host",
					fmt.Sprintf("give SocketPlane another port on all hosts, --vxlan-port %d, or the other program", p.Port+1))
			}
			shared = append(shared, o.Name)
		}
		swarm, f, bad := p.swarm(ctx)
		if bad {
			return f
		}
		if swarm {
			shared = append(shared, "Docker's swarm")
		}
		if len(shared) > 0 {
			return OK("%s and this host's tunnels share UDP port %d in the kernel, each with its own VNIs", strings.Join(shared, ", "), p.Port)
		}
		return OK("nobody else uses UDP port %d for VXLAN", p.Port)
	}}
}

// swarm says whether a swarm shares the port, or what is wrong with that.
func (p TunnelPort) swarm(ctx context.Context) (shares bool, f Finding, bad bool) {
	if p.Swarm == nil {
		return false, Finding{}, false
	}
	s, err := p.Swarm(ctx)
	if err != nil {
		return false, Unknown("Docker does not say whether it is in a swarm: "+err.Error(), "see Docker"), true
	}
	port := s.Port
	if port == 0 {
		port = swarmPort
	}
	if !s.Active || port != p.Port {
		return false, Finding{}, false
	}
	if p.Tunnel() == "ovs" {
		return true, Error(SwarmTrouble(p.Port), "the kernel gives the port to one of the two, and the other's networks reach no other host", swarmCure(p.Port)), true
	}
	return true, Finding{}, false
}

// SwarmTrouble says that Docker's swarm and Open vSwitch's tunnels can't share a port.
func SwarmTrouble(port uint16) string {
	return fmt.Sprintf("Docker's swarm and Open vSwitch's tunnels (--tunnel ovs) both use UDP port %d on this host", port)
}

func swarmCure(port uint16) string {
	return fmt.Sprintf("give SocketPlane another port on all hosts, --vxlan-port %d; or --tunnel kernel, whose devices share the port with Swarm's; or make the swarm with 'docker swarm init --data-path-port'", port+1)
}

// Tracking looks whether conntrack leaves the tunnels' packets alone. track says that it shall not; look says whether the rules are
// there, or that the kernel can't.
func Tracking(track bool, look func() (there, cant bool, err error)) Check {
	return Check{Name: nameTracking, Looks: "the nftables table that keeps conntrack away from the tunnels' packets", Look: func(context.Context) Finding {
		if track {
			return NotApplicable("the tunnels' packets are tracked, as --track-tunnels says")
		}
		const follows = "each connection of containers leaves one or two more entries in the kernel's table of connections"
		switch there, cant, err := look(); {
		case cant:
			return Warning("the kernel lacks nf_tables, or its parts nf_tables_inet and nft_ct", follows, "modprobe nf_tables; or raise net.netfilter.nf_conntrack_max, and tell so with --track-tunnels true")
		case err != nil:
			return Unknown(err.Error(), "")
		case !there:
			return Warning("the table is not there, or was changed", follows, "it is made again within a minute; see what else writes nftables on this host")
		}
		return OK("the rules are there")
	}}
}

// strayFresh is how long something that was removed from our links is told of.
const strayFresh = time.Hour

// OwnLinks looks for addresses and routes that other programs put on our links. now lists those that are there, last is the one that the
// agent removed last, and when.
func OwnLinks(now func(context.Context) ([]string, error), last func() (string, time.Time)) Check {
	return Check{Name: nameOwnLinks, Looks: "addresses and routes on SocketPlane's links", Look: func(ctx context.Context) Finding {
		const follows = "this host answers for itself in a network of containers, or sends packets into it"
		const cure = "keep NetworkManager, systemd-networkd and dhcpcd off sph*, spc*, spx* and socketplane*: docs/operations.md has a file for each"
		found, err := now(ctx)
		if err != nil {
			return Unknown(err.Error(), "")
		}
		if len(found) > 0 {
			return Warning("another program has put there: "+strings.Join(found, ", "), follows+"; the agent removes them", cure)
		}
		if what, at := last(); !at.IsZero() && time.Since(at) < strayFresh {
			return Warning(fmt.Sprintf("none now; another program had put there %s, which the agent removed %v ago", what, time.Since(at).Round(time.Second)), "for a moment "+follows, cure)
		}
		return OK("none")
	}}
}

// ContainerMTU looks for containers and networks whose MTU is another one than all hosts can carry, a line each.
func ContainerMTU(least func() int, look func(context.Context) ([]string, error)) Check {
	return Check{Name: nameContainerMTU, Looks: "the MTU of the hosts' NICs, of networks with one of their own, and of containers", Look: func(ctx context.Context) Finding {
		found, err := look(ctx)
		if err != nil {
			return Unknown("the networks and hosts are not known: "+err.Error(), "see the store")
		}
		if len(found) > 0 {
			return Warning(strings.Join(found, "; "), "large packets between hosts are lost or cut into pieces",
				"docker restart CONTAINER for containers; a network with an MTU of its own is made again, with 'docker network rm' and 'docker network create' without -o mtu")
		}
		return OK("containers get %d bytes, which every host can carry", least())
	}}
}
