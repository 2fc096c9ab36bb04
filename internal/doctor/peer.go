package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// Errors of a probe through the tunnel.
var (
	// ErrNoTunnel says that no network has containers here and on the other host, so that there is no tunnel to it.
	ErrNoTunnel = errors.New("no network has containers on both hosts")
	// ErrNoAnswer says that nothing came back in time.
	ErrNoAnswer = errors.New("no answer")
)

// Peer is another host of the cluster.
type Peer struct {
	ID, Name string
	VTEP     netip.Addr
	// Alive says that its agent's session lives.
	Alive   bool
	Version string
	// VXLANPort is that of its tunnels; 0 if its agent does not tell.
	VXLANPort uint16
	// Used says that containers of it use a network, so that a tunnel ends there.
	Used bool
	// Needs is how large a packet between the two hosts must get there whole, in bytes: the largest that containers here send to
	// containers there, with what the tunnel adds. 0 if that is not known; then it is this host's MTU.
	Needs int
}

// Answer is a probe's: how large it was in bytes, and which host answered ("" if its switch does not tell).
type Answer struct {
	Size int
	Host string
}

// Way is what the way to other hosts is looked at with. The errors of its functions are those of the system (ECONNREFUSED, EPERM, EMSGSIZE,
// ENETUNREACH, …), ErrNoTunnel and ErrNoAnswer.
type Way struct {
	Links Links
	// Underlay is this host's end, VXLANPort the UDP port of its tunnels.
	Underlay  func() Underlay
	VXLANPort uint16
	// Hosts are the other hosts.
	Hosts func(context.Context) ([]Peer, error)
	// Tunnel sends a frame of that size through the tunnel and back; 0 is the largest packet of a container.
	Tunnel func(ctx context.Context, to netip.Addr, size int) (Answer, error)
	// Echo sends an ICMP echo of that size that must not be fragmented, and waits for the answer.
	Echo func(ctx context.Context, to netip.Addr, size int) error
	// Refused sends datagrams to a UDP port, and returns an error if one is refused, or can't be sent.
	Refused func(ctx context.Context, to netip.AddrPort) error
	// Route gives the link by which packets from one address to another leave, and the gateway; that is not valid where the second
	// is on that link's own segment.
	Route func(ctx context.Context, from, to netip.Addr) (dev string, gateway netip.Addr, err error)
	// Neighbours asks a link's segment for the MACs of all stations that have an address.
	Neighbours func(ctx context.Context, dev string, to netip.Addr) ([]string, error)
	// Files has the kernel's own table of neighbours.
	Files Files
	// Bridge reads this host's own bridge, through which probes of the tunnel go.
	Bridge func(context.Context) (BridgeState, error)
	// HostOf is what Answer.Host is for a host's id.
	HostOf func(id string) string
}

// Bounds of probes.
const (
	wayLimit      = 12 * time.Second
	echoAnswer    = time.Second
	refusalAnswer = 2 * time.Second // frames of a probe are refused too, of which Linux tells once a second
	tunnelAnswer  = 2 * time.Second
)

// smallProbe is what every host must take whole, in bytes (RFC 791).
const smallProbe = 576

// Check looks at the way to each other host.
func (w Way) Check() Check {
	const looks = "the hosts of the cluster, then for each: link, route, neighbour, address, tunnel, UDP port, MTU"
	return Check{Name: nameWay + " other hosts", Looks: looks, Limit: wayLimit, Parts: func(ctx context.Context) ([]Check, Finding) {
		peers, err := w.Hosts(ctx)
		if err != nil {
			return nil, Unknown("the other hosts are not known: "+err.Error(), "see the store")
		}
		var all []Check
		for _, p := range peers {
			all = append(all, Check{Name: nameWay + " " + p.Name, Limit: wayLimit,
				Looks: fmt.Sprintf("this host's link, the route and the neighbour entry of %s, frames through the tunnel to it, its UDP port %d, and packets of the full MTU", p.VTEP, w.VXLANPort),
				Look: func(ctx context.Context) Finding {
					if f, bad := shared(p, peers); bad {
						return f
					}
					return w.look(ctx, p)
				}})
		}
		return all, NotApplicable("the cluster has no other host")
	}}
}

// seen is what was seen of the way to one host.
type seen struct {
	tunnel      error
	answer      Answer
	small, full error // echoes
	refused     error
	route       string
	routeErr    error
	link        Link
	linkFound   bool
	macs        []string // of the stations on the segment that have the address
	noMAC       bool     // nobody there has it, or the gateway's; false too where it can't be asked
	gateway     netip.Addr
	kernelMAC   string // where the kernel sends what is for the address; "" if it is not known
	bridge      string // what is wrong with this host's own bridge, looked at when the tunnel gives no answer
	reachable   bool
}

// look gathers everything side by side, and then draws the conclusion in the order in which packets go.
func (w Way) look(ctx context.Context, p Peer) Finding {
	u := w.Underlay()
	if f, bad := w.sameAddress(u, p); bad {
		return f
	}
	s := w.gather(ctx, u, p)
	if f, bad := w.ownSide(u, p, s); bad {
		return f
	}
	if s.tunnel == nil && s.answer.Host != "" && s.answer.Host != w.HostOf(p.ID) {
		return Error(fmt.Sprintf("another host answers at %s: it is not %s", p.VTEP, p.Name), "what is sent to the containers of "+p.Name+" goes to that host",
			fmt.Sprintf("two hosts have the address %s, or %s has another one by now: give each an address of its own with --advertise, and restart its agent", p.VTEP, p.Name))
	}
	if s.tunnel != nil {
		if f, bad := w.noTunnel(p, s); bad {
			return f
		}
	}
	return w.size(ctx, u, p, s)
}

// gather asks everything side by side.
func (w Way) gather(ctx context.Context, u Underlay, p Peer) seen {
	var s seen
	silence, heard := context.WithTimeout(ctx, refusalAnswer) // what comes back through the tunnel is not refused
	defer heard()
	each := []func(){
		func() {
			ctx, cancel := context.WithTimeout(ctx, tunnelAnswer)
			defer cancel()
			if s.answer, s.tunnel = w.Tunnel(ctx, p.VTEP, smallProbe); s.tunnel == nil {
				heard()
			}
		},
		func() { s.small = w.echo(ctx, p.VTEP, smallProbe) },
		func() { s.full = w.echo(ctx, p.VTEP, whole(u, p)) },
		func() { s.refused = w.Refused(silence, netip.AddrPortFrom(p.VTEP, w.VXLANPort)) },
		func() { w.neighbour(ctx, silence, u, p, &s) },
	}
	done := make(chan struct{}, len(each))
	for _, ask := range each {
		go func() {
			ask()
			done <- struct{}{}
		}()
	}
	for range each {
		<-done
	}
	if all, err := w.Links(); err == nil {
		s.link, s.linkFound = named(all, s.route)
		if s.routeErr != nil {
			s.link, s.linkFound = having(all, u.Addr)
			if !s.linkFound {
				s.link, s.linkFound = named(all, u.Dev)
			}
		}
	}
	if errors.Is(s.tunnel, ErrNoAnswer) && w.Bridge != nil {
		if b, err := w.Bridge(ctx); err == nil {
			s.bridge = b.spoiled()
		}
	}
	s.reachable = s.tunnel == nil || s.small == nil || s.full == nil || errors.Is(s.refused, syscall.ECONNREFUSED)
	return s
}

// whole is the size of the largest packet that must get to a host unfragmented. Hosts may have larger MTUs than that.
func whole(u Underlay, p Peer) int {
	if p.Needs == 0 {
		return u.MTU
	}
	return min(u.MTU, p.Needs)
}

func (w Way) echo(ctx context.Context, to netip.Addr, size int) error {
	ctx, cancel := context.WithTimeout(ctx, echoAnswer)
	defer cancel()
	return w.Echo(ctx, to, size)
}

// Reached says whether anything comes back from an address: an echo, or a frame through the tunnel.
func (w Way) Reached(ctx context.Context, to netip.Addr) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	go func() { errs <- w.echo(ctx, to, smallProbe) }()
	go func() {
		_, err := w.Tunnel(ctx, to, smallProbe)
		errs <- err
	}()
	first := <-errs
	return first == nil || <-errs == nil
}

// neighbour looks up the route, and, until silence ends, whether anybody on the segment has the address, where it is on one.
func (w Way) neighbour(ctx, silence context.Context, u Underlay, p Peer, s *seen) {
	ctx, cancel := context.WithTimeout(ctx, echoAnswer)
	defer cancel()
	if s.route, s.gateway, s.routeErr = w.Route(ctx, u.Addr, p.VTEP); s.routeErr != nil {
		return
	}
	if s.gateway.IsValid() {
		_, err := w.Neighbours(silence, s.route, s.gateway)
		s.noMAC = errors.Is(err, ErrNoAnswer)
		return
	}
	var err error
	s.macs, err = w.Neighbours(silence, s.route, p.VTEP)
	s.noMAC = errors.Is(err, ErrNoAnswer)
	s.kernelMAC = w.Files.neighbour(s.route, p.VTEP)
}

// ownSide looks for what is wrong on this host's side: its link, its route, its own firewall.
func (w Way) ownSide(u Underlay, p Peer, s seen) (Finding, bool) {
	if s.reachable {
		return Finding{}, false
	}
	if s.linkFound {
		if f, bad := down(s.link); bad {
			f.Follows = p.Name + " can't be reached"
			return f, true
		}
	}
	if s.routeErr != nil {
		return noRoute(u, p, s.routeErr), true
	}
	if denied(s.refused) {
		return w.ownFirewall(p, "to UDP port "+fmt.Sprint(w.VXLANPort)), true
	}
	if denied(s.small) {
		return w.ownFirewall(p, "of ICMP"), true
	}
	return Finding{}, false
}

// noRoute is the verdict where the kernel names no route. The error tells a route or a rule that discards packets from a missing one
// (RTN_BLACKHOLE and so on in net/ipv4/fib_semantics.c).
func noRoute(u Underlay, p Peer, err error) Finding {
	follows, kind := p.Name+" can't be reached", ""
	switch {
	case errors.Is(err, syscall.EINVAL):
		kind = "blackhole"
	case errors.Is(err, syscall.EACCES):
		kind = "prohibit"
	default:
		return Error(fmt.Sprintf("there is no route from this host to %s: %v", p.VTEP, err), follows,
			fmt.Sprintf("give this host a route to it; 'ip route get %s from %s' shows what the kernel does", p.VTEP, u.Addr))
	}
	return Error(fmt.Sprintf("there is no route from this host to %s: a route or a rule of type %s discards packets to it (%v)", p.VTEP, kind, err), follows,
		fmt.Sprintf("'ip route show to match %s table all' and 'ip rule' show it; then ip route del %s with its prefix", p.VTEP, kind))
}

func denied(err error) bool { return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) }

func (w Way) ownFirewall(p Peer, what string) Finding {
	return Error(fmt.Sprintf("this host's own firewall drops packets %s of %s on their way out", what, p.VTEP), "what containers send to "+p.Name+" does not leave this host",
		fmt.Sprintf("let UDP port %d out: 'nft list ruleset' and 'iptables -S OUTPUT' show the rule that drops it", w.VXLANPort))
}

// noTunnel says why nothing comes back through the tunnel; nothing is wrong where there is none and nothing speaks against it.
func (w Way) noTunnel(p Peer, s seen) (Finding, bool) {
	port := fmt.Sprintf("UDP port %d of %s", w.VXLANPort, p.VTEP)
	noAnswer := errors.Is(s.tunnel, ErrNoAnswer)
	here := "see that %s runs: 'socketplane doctor' there says more; 'socketplane host rm %s' forgets it if it will not come back"
	switch {
	case p.VXLANPort != 0 && p.VXLANPort != w.VXLANPort:
		return Error(fmt.Sprintf("the tunnels of %s use UDP port %d, those of this host %d", p.Name, p.VXLANPort, w.VXLANPort), "nothing gets through in either direction",
			"set the same --vxlan-port on all hosts (SOCKETPLANE_VXLAN_PORT), and restart the agents"), true
	case noAnswer && s.bridge != "":
		return Unknown("frames sent into the tunnel do not come back, but this host's own bridge is not in order: "+s.bridge, "see the bridge"), true
	case noAnswer && len(s.macs) > 0 && s.kernelMAC != "" && !slices.Contains(s.macs, s.kernelMAC):
		return Error(fmt.Sprintf("this host sends what is for %s to the MAC %s, but the station that has the address is %s: the kernel's neighbour entry is wrong", p.VTEP, s.kernelMAC, s.macs[0]),
			p.Name+" can't be reached", fmt.Sprintf("ip neigh del %s dev %s; see what made it: 'ip neigh show to %s' says PERMANENT if a program or a person did", p.VTEP, s.route, p.VTEP)), true
	case noAnswer && len(s.macs) > 1:
		return Error(fmt.Sprintf("%d stations on the segment of %s answer for the address %s: %s", len(s.macs), s.route, p.VTEP, strings.Join(s.macs, ", ")),
			"packets for "+p.Name+" may go to another machine", fmt.Sprintf("find the machine whose MAC is none of %s ('ip link' there) and give it another address; "+
				"if both are NICs of %s, keep one of them from answering (net.ipv4.conf.all.arp_ignore=1 there)", p.Name, p.Name)), true
	case denied(s.refused) && (noAnswer || s.small == nil):
		return w.ownFirewall(p, fmt.Sprintf("to UDP port %d", w.VXLANPort)), true
	case p.Used && errors.Is(s.refused, syscall.ECONNREFUSED):
		return Error(port+" is refused: no tunnel ends there", "containers here do not reach those of "+p.Name,
			fmt.Sprintf("let UDP port %d through the firewalls of both hosts, and see with 'socketplane doctor' on %s that its agent and Open vSwitch run and use the same --vxlan-port",
				w.VXLANPort, p.Name)), true
	case !s.reachable && s.noMAC && s.gateway.IsValid():
		return w.gone(p, fmt.Sprintf("the route to %s leads by the gateway %s on %s, and nobody on that segment has that address (no answer to ARP)", p.VTEP, s.gateway, s.route),
			fmt.Sprintf("start that gateway, or give this host another route: 'ip route get %s' shows the present one", p.VTEP)), true
	case !s.reachable && s.noMAC:
		return w.gone(p, fmt.Sprintf("nobody on the segment of %s has the address %s (no answer to ARP)", s.link.Name, p.VTEP),
			fmt.Sprintf("the host is off, its link is down, or it has another address; "+here, p.Name, p.ID)), true
	case !s.reachable && !p.Alive:
		return w.gone(p, fmt.Sprintf("%s gives no answer, neither to ICMP nor through the tunnel, and its agent is down", p.VTEP), fmt.Sprintf(here, p.Name, p.ID)), true
	case noAnswer && s.reachable:
		return Error(port+" gives no answer: frames sent into the tunnel do not come back, while the host answers ICMP", "containers here do not reach those of "+p.Name,
			fmt.Sprintf("let UDP port %d through the firewalls of both hosts and between them (this host's link, the route, the address and both port numbers are in order); "+
				"a rule that accepts it for new connections only (ctstate NEW) does not match, unless --track-tunnels is true; "+
				"if none drops it, see with 'socketplane doctor' on %s that its Open vSwitch runs", w.VXLANPort, p.Name)), true
	case noAnswer && len(s.macs) > 0:
		return Error(port+" gives no answer, and the host answers no ICMP echo, though its agent is up and it answers ARP", "containers here do not reach those of "+p.Name,
			fmt.Sprintf("let UDP port %d and ICMP through the firewalls of both hosts, and see with 'socketplane doctor' on %s that its Open vSwitch runs", w.VXLANPort, p.Name)), true
	case noAnswer:
		return Error(port+" gives no answer, and the host answers no ICMP echo, though its agent is up", "containers here do not reach those of "+p.Name,
			fmt.Sprintf("either its link is down, or a router or a firewall between drops packets: 'socketplane doctor' on %s tells; then let UDP port %d and ICMP through", p.Name, w.VXLANPort)), true
	case !errors.Is(s.tunnel, ErrNoTunnel) && !s.reachable:
		return Unknown("the tunnel can't be probed: "+s.tunnel.Error(), "see Open vSwitch"), true
	}
	return Finding{}, false
}

// gone is the verdict on a host that answers nothing: a warning if its agent is down too, since then it is probably off.
func (w Way) gone(p Peer, saw, cure string) Finding {
	follows := "its containers can't be reached"
	if !p.Alive {
		return Warning(saw, follows, cure)
	}
	return Error(saw, follows, cure)
}

// size looks for the largest packet that gets there whole. Where ICMP is dropped and the tunnel works, the
// largest packet of a container shows it: it needs the whole of the underlay's.
func (w Way) size(ctx context.Context, u Underlay, p Peer, s seen) Finding {
	state, tail := adminapi.CheckOK, ""
	switch {
	case s.tunnel == nil:
		tail = "a frame came back through the tunnel; "
	case !errors.Is(s.tunnel, ErrNoTunnel):
		state, tail = adminapi.CheckUnknown, "the tunnel can't be probed: "+s.tunnel.Error()+"; "
	}
	untried := ""
	if errors.Is(s.tunnel, ErrNoTunnel) {
		untried = "; the tunnel is not probed, as " + ErrNoTunnel.Error()
	}
	cure := fmt.Sprintf("make the MTU between the hosts equal: 'ip link show' on both, and the switches between; or lower it here with 'ip link set %s mtu BYTES', "+
		"and 'docker restart' the containers that the check of the containers' MTU names", u.Dev)
	const follows = "large packets of containers are lost, so that connections begin and then hang"
	switch {
	case s.full == nil:
		f := Finding{State: state, Saw: fmt.Sprintf("%s%s gets whole packets of %d bytes, the largest that containers need%s", tail, p.VTEP, whole(u, p), untried)}
		if state == adminapi.CheckUnknown {
			f.Saw, f.Cure = "could not look: "+f.Saw, "see Open vSwitch"
		}
		return f
	case s.small == nil:
		return Error(fmt.Sprintf("%spackets of %d bytes, as containers of this host need them, do not reach %s whole%s", tail, whole(u, p), p.VTEP, untried), follows, cure)
	case s.tunnel != nil:
		return Warning(fmt.Sprintf("%s answers no ICMP echo: %v%s", p.VTEP, why(s.small), untried), "neither the way nor its MTU can be checked",
			"see that the host runs, and that nothing between drops ICMP; then the MTU can be checked too")
	}
	ctx, cancel := context.WithTimeout(ctx, tunnelAnswer)
	defer cancel()
	full, err := w.Tunnel(ctx, p.VTEP, 0)
	if err != nil {
		return Error(fmt.Sprintf("small packets reach %s through the tunnel, containers' packets of %d bytes do not", p.VTEP, full.Size), follows, cure)
	}
	return OK("%s%s drops ICMP, but gets containers' packets of %d bytes", tail, p.VTEP, full.Size)
}

// why shortens an echo's error to what tells something.
func why(err error) error {
	for _, known := range []error{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EPERM, ErrNoAnswer} {
		if errors.Is(err, known) {
			return known
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrNoAnswer
	}
	return err
}
