package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Engine says which Docker Engine a lab's hosts run.
type Engine string

// The engines: Debian's own, and the one that test/tools/install.sh builds.
const (
	EngineDebian  Engine = "debian"
	EngineCurrent Engine = "current"
)

// Tunnel says how a lab's hosts are made, and which tunnel their agents are told to use.
type Tunnel string

const (
	// TunnelKernel leaves the host's NIC an ordinary one, and turns on Open vSwitch's user-space segmentation.
	TunnelKernel Tunnel = "kernel"
	// TunnelOVS moves the host's NIC into an Open vSwitch bridge, br-und, which carries the host's addresses.
	TunnelOVS Tunnel = "ovs"
	// TunnelAuto makes hosts as TunnelKernel does and leaves the choice to the agent.
	TunnelAuto Tunnel = "auto"
)

// MaxHosts is how many hosts the underlay's addresses are laid out for.
const MaxHosts = 200

// Options of a lab. The zero value is one host with Debian's engine, the kernel's tunnel, no Consul and an agent
// built from this checkout.
type Options struct {
	// Name tells labs of one machine apart; up to 8 of [a-z0-9]. By default one that no other lab has. A former lab of
	// this name, crashed or running, is closed first.
	Name   string
	Hosts  int
	Engine Engine
	Tunnel Tunnel
	// Consul starts a Consul server in the underlay; Lab.Consul is nil without. Servers makes that several, which form a cluster.
	Consul  bool
	Servers int
	// Cluster makes the agents form a cluster of their own, with the consul program at hand; there is no server in the underlay.
	Cluster bool
	// NoDocker leaves the hosts without an engine, and tells their agents so.
	NoDocker bool
	// Agent is the socketplane binary; by default it is built from the checkout around the working directory.
	Agent string
	// NoAgent starts no agents; Host.StartAgent still can.
	NoAgent bool
	// Plugin runs the agents as Docker's managed plugin: what starts, stops and kills agents does it to that one.
	Plugin bool
	// NoOVS leaves the hosts without Open vSwitch.
	NoOVS bool
	// AgentFlags are added to the command line of every agent.
	AgentFlags []string
	// Dir holds everything of the lab; by default a directory below /var/tmp/socketplane-lab. It should be short, as
	// there are unix sockets in it, and not on an overlay, as images are.
	Dir string
	// MTU of the underlay in bytes, 1500 by default.
	MTU int
	// Patience bounds the wait for each daemon, 90 s by default; emulated machines need more.
	Patience time.Duration
	// Detached lets the lab outlive this program; Open finds it again.
	Detached bool
	// Log gets a line for each step; nil drops them.
	Log func(format string, args ...any)
}

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// root is where labs are by default: on a disk, where overlays can be, and short.
const root = "/var/tmp/socketplane-lab"

func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = "l" + strconv.FormatInt(int64(os.Getpid()), 36) + newSuffix()
	}
	if o.Hosts == 0 {
		o.Hosts = 1
	}
	if o.Servers == 0 {
		o.Servers = 1
	}
	if o.Engine == "" {
		o.Engine = EngineDebian
	}
	if o.Tunnel == "" {
		o.Tunnel = TunnelKernel
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if o.Patience == 0 {
		o.Patience = startPatience
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(root, o.Name)
	}
	switch {
	case !nameRule.MatchString(o.Name):
		return o, fmt.Errorf("lab name %q: give a letter and up to seven letters and digits", o.Name)
	case o.Hosts < 0 || o.Hosts > MaxHosts:
		return o, fmt.Errorf("%d hosts: a lab has 1 to %d", o.Hosts, MaxHosts)
	case o.Engine != EngineDebian && o.Engine != EngineCurrent:
		return o, fmt.Errorf("engine %q: there are %q and %q", o.Engine, EngineDebian, EngineCurrent)
	case o.Tunnel != TunnelKernel && o.Tunnel != TunnelOVS && o.Tunnel != TunnelAuto:
		return o, fmt.Errorf("tunnel %q: there are %q, %q and %q", o.Tunnel, TunnelKernel, TunnelOVS, TunnelAuto)
	case o.Consul && o.Cluster:
		return o, fmt.Errorf("a lab has a Consul server in its underlay, or hosts that form a cluster, not both")
	case o.Servers < 1 || o.Servers > maxServers:
		return o, fmt.Errorf("%d Consul servers: a lab has 1 to %d", o.Servers, maxServers)
	case !filepath.IsAbs(o.Dir):
		return o, fmt.Errorf("lab directory %q: give an absolute path", o.Dir)
	}
	return o, nil
}

// maxServers is how many Consul servers the underlay's addresses are laid out for.
const maxServers = 5

// The underlay: 10.99.0.0/16 and fd99::/64. Hosts have 10.99.1.N; the router to the outside and Consul's servers come first.
var (
	routerAddr   = netip.MustParseAddr("10.99.0.1")
	routerAddr6  = netip.MustParseAddr("fd99::1")
	outsideAddr  = netip.MustParseAddr("198.51.100.1") // TEST-NET-2 of RFC 5737
	outsideAddr6 = netip.MustParseAddr("2001:db8:99::1")
)

func consulAddr(index int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 0, byte(index + 2)}) }

func hostAddr(index int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 1, byte(index + 1)}) }

func hostAddr6(index int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd99::1:%x", index+1))
}

// renumbered is the host's address in a second range, 10.99.2.N or fd99::2:N, or back.
func renumbered(a netip.Addr) netip.Addr {
	b := a.AsSlice()
	at := len(b) - 2 // the byte before the host's number, or for IPv6 the two before
	if a.Is6() {
		at = len(b) - 3
	}
	b[at] = 3 - b[at]
	other, _ := netip.AddrFromSlice(b) // as long as it was
	return other
}
