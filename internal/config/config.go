package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// Bridge is the name of the OVS bridge that carries the networks. It is fixed: what is ours must be found again after
// any crash, whatever was set at the time.
const Bridge = "socketplane0"

// DockerNone as [Config.DockerHost] means: do without Docker's API.
const DockerNone = "none"

// NetworkNone as [Config.DefaultNetwork] means: begin without a network.
const NetworkNone = "none"

// StoreKind says which store holds the cluster's state.
type StoreKind string

// The kinds of store. With StoreAuto the agent takes the user's Consul where one can be had, else with a consul program
// the cluster that hosts form by themselves, else a file of its own.
const (
	StoreAuto    StoreKind = "auto"
	StoreConsul  StoreKind = "consul"
	StoreCluster StoreKind = "cluster"
	StoreBolt    StoreKind = "bolt"
)

// TunnelKind says who encapsulates packets between hosts.
type TunnelKind string

// The kinds of tunnel. With TunnelAuto the datapath of the switch decides.
const (
	TunnelAuto   TunnelKind = "auto"
	TunnelOVS    TunnelKind = "ovs"
	TunnelKernel TunnelKind = "kernel"
)

// Scope says what Docker takes our networks for.
type Scope string

// The scopes. ScopeGlobal is for Swarm: a network then has one id on all of Swarm's hosts.
const (
	ScopeLocal  Scope = "local"
	ScopeGlobal Scope = "global"
)

// LogFormat says how log records are written.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Config is everything that an operator can set. It is a plain value; nothing changes it after [Load].
type Config struct {
	// Store is the kind of store.
	Store StoreKind
	// ConsulAddr is Consul's HTTP address in a form that Consul's own client takes (HOST:PORT, http://, https://,
	// unix://PATH). Empty means 127.0.0.1:8500, and with StoreAuto only if something answers there.
	ConsulAddr string
	// ConsulToken is Consul's ACL token. It has no flag: command lines are readable by every user of a host.
	ConsulToken Secret
	// ConsulBinary is the consul program that a cluster of our own runs; absolute. Empty means the one of PATH, or else beside ours.
	ConsulBinary string
	// ClusterPort is the first of the [ClusterPorts] in a row that such a cluster uses, the same on all hosts.
	ClusterPort uint16
	// Join are addresses of hosts whose cluster this host joins, in the form of [Config.JoinAddresses]. With any it founds none.
	Join string
	// JoinToken opens a locked cluster. It has no flag, for the reason that ConsulToken has none.
	JoinToken Secret
	// JoinTokenFile is where a token is kept, read by [Config.ReadToken]; absolute. A host that founds a cluster while the file
	// is not there locks the cluster, and writes a token to it.
	JoinTokenFile string
	// Multicast says whether hosts of the segment find each other by mDNS.
	Multicast bool
	// ServerGrace is how long a server may be down until another host takes its place.
	ServerGrace time.Duration
	// StateDir is the directory of the local state; absolute.
	StateDir string
	// PluginSocket is the unix socket that Docker calls; absolute.
	PluginSocket string
	// AdminSocket is the unix socket between the command line and the agent; absolute.
	AdminSocket string
	// OVSDB is the address of the switch's database, "unix:" and an absolute path.
	OVSDB string
	// DockerHost is the address of Docker's API (unix://PATH or tcp://HOST:PORT), or [DockerNone].
	DockerHost string
	// Scope is the scope of networks.
	Scope Scope
	// Mirror makes Docker have the cluster's networks, and tells the cluster of Docker's. It needs Docker's API.
	Mirror bool
	// DefaultNetwork is the name of the network that a new cluster begins with, or [NetworkNone].
	DefaultNetwork string
	// DefaultSubnet is that network's subnet; the zero Prefix means that a free one is chosen.
	DefaultSubnet netip.Prefix
	// AddressPools are the prefixes from which subnets are cut that nobody names, in the form of [Config.Ranges].
	AddressPools string
	// Advertise is this host's tunnel address. The zero Addr means that the agent takes that of the default route.
	Advertise netip.Addr
	// Tunnel is the kind of tunnel.
	Tunnel TunnelKind
	// VXLANPort is the UDP port of the tunnels, the same on all hosts.
	VXLANPort uint16
	// TrackTunnels leaves the tunnels' packets to the kernel's connection tracking.
	TrackTunnels bool
	// Name is this host's name, for people; hosts are told apart by their ids.
	Name string
	// LogLevel is the lowest level that is logged.
	LogLevel slog.Level
	// LogFormat is the form of the log.
	LogFormat LogFormat
	// MetricsAddr is HOST:PORT where metrics are served over HTTP. Empty means nowhere.
	MetricsAddr string
	// HostExpiry is how long a host's agent may be away until the host is removed; 0 means for ever.
	HostExpiry time.Duration
	// GarbageGrace is how long records must have been needed by nothing until they are removed, and at most how long Docker must have
	// forgotten what it made.
	GarbageGrace time.Duration
	// Pprof serves Go's profiles there too.
	Pprof bool
}

// Defaults returns the settings of an agent that was told nothing. Name is empty until [Config.Complete].
func Defaults() Config {
	return Config{
		Store:        StoreAuto,
		ClusterPort:  4780, // nobody's with IANA, and beside VXLAN's
		Multicast:    true,
		ServerGrace:  30 * time.Second,
		StateDir:     "/var/lib/socketplane",
		PluginSocket: "/run/docker/plugins/socketplane.sock", // where dockerd looks for plugins without a spec file
		AdminSocket:  "/run/socketplane/agent.sock",
		OVSDB:        "unix:/run/openvswitch/db.sock", // the distributions' OVS packages put it here
		DockerHost:   "unix:///var/run/docker.sock",   // Docker's own default
		Tunnel:       TunnelAuto,
		Scope:        ScopeLocal,
		Mirror:       true,
		// Docker refuses the name "default".
		DefaultNetwork: "socketplane",
		AddressPools:   "10.32.0.0/12:20,10.64.0.0/10:20,172.16.0.0/12:20,192.168.0.0/16:22",
		VXLANPort:      4789, // RFC 7348, section 8
		HostExpiry:     24 * time.Hour,
		GarbageGrace:   5 * time.Minute,
		LogLevel:       slog.LevelInfo,
		LogFormat:      LogText,
	}
}

// Complete fills in what can only be known on the running host. It does not change what is set.
func (c *Config) Complete() error {
	if c.Name != "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("this host's name cannot be read: set --name or %sNAME: %w", envPrefix, err)
	}
	c.Name = name
	return nil
}

// Validate checks every setting and returns all that is wrong, joined; each part is an [*Error].
func (c *Config) Validate() error {
	var errs []error
	for _, s := range Settings() {
		if s.check == nil {
			continue
		}
		if err := s.check(c); err != nil {
			errs = append(errs, s.wrong(s.get(c), "", err))
		}
	}
	if c.PluginSocket == c.AdminSocket {
		errs = append(errs, settingNamed("admin-socket").wrong(c.AdminSocket, "",
			errors.New("a path other than that of --plugin-socket")))
	}
	if c.VXLANPort >= c.ClusterPort && c.VXLANPort-c.ClusterPort < ClusterPorts {
		errs = append(errs, settingNamed("cluster-port").wrong(strconv.Itoa(int(c.ClusterPort)), "",
			fmt.Errorf("a port that leaves --vxlan-port %d out of the %d from it on", c.VXLANPort, ClusterPorts)))
	}
	return errors.Join(errs...)
}

// Warnings returns what is allowed but deserves an operator's attention, a sentence each.
func (c *Config) Warnings() []string {
	var out []string
	if c.MetricsAddr != "" && !isLoopback(c.MetricsAddr) {
		out = append(out, fmt.Sprintf("metrics on %s are readable by everybody who reaches that address: "+
			"choose a loopback address with --metrics-addr or guard the port", c.MetricsAddr))
		if c.Pprof {
			out = append(out, fmt.Sprintf("profiles on %s show what is in the agent's memory to everybody who reaches that address: "+
				"leave out --pprof or choose a loopback address", c.MetricsAddr))
		}
	}
	return out
}
