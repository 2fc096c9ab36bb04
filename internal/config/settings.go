package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const envPrefix = "SOCKETPLANE_"

// Setting is one row of the table of settings.
type Setting struct {
	// Flag is the flag's name without dashes; empty for what may come from the environment only.
	Flag string
	// Env are the environment variables that are read; the first that is set and not empty wins.
	Env []string
	// Usage is one line for the help text.
	Usage string

	// Switch says that the flag alone means true.
	Switch bool

	secret bool
	get    func(*Config) string
	// set parses; its error says what is allowed.
	set func(*Config, string) error
	// check is nil where parsing leaves nothing to check; its error says what is allowed.
	check func(*Config) error
}

// Default is the setting's default in the form in which it is set.
func (s Setting) Default() string {
	c := Defaults()
	return s.get(&c)
}

// Value is the setting's value in the form in which it is set; "***" for a secret.
func (s Setting) Value(c Config) string { return s.get(&c) }

// Settings returns the table, in the order in which help should show it.
func Settings() []Setting {
	return slices.Concat(placeSettings(), expirySettings(), clusterSettings(), mirrorSettings(), networkSettings(), logSettings())
}

// placeSettings are those that say where things are.
func placeSettings() []Setting {
	return []Setting{
		text("store", "where the cluster's state lives: auto, consul, cluster or bolt",
			func(c *Config) *StoreKind { return &c.Store }, oneOf(StoreAuto, StoreConsul, StoreCluster, StoreBolt)),
		text("consul-addr", "Consul's HTTP address (default 127.0.0.1:8500 if Consul answers there)",
			func(c *Config) *string { return &c.ConsulAddr }, consulAddr).also("CONSUL_HTTP_ADDR"),
		consulToken(),
		text("state-dir", "directory of the local state",
			func(c *Config) *string { return &c.StateDir }, absolute),
		text("plugin-socket", "unix socket that Docker calls",
			func(c *Config) *string { return &c.PluginSocket }, socketPath),
		text("admin-socket", "unix socket between the command line and the agent",
			func(c *Config) *string { return &c.AdminSocket }, socketPath),
		text("ovsdb", "address of Open vSwitch's database",
			func(c *Config) *string { return &c.OVSDB }, ovsdbAddr),
		text("docker-host", `address of Docker's API, or "none" to do without`,
			func(c *Config) *string { return &c.DockerHost }, dockerAddr).also("DOCKER_HOST"),
		text("scope", "scope of the networks: local, or global for Swarm's services (managed plugin only)",
			func(c *Config) *Scope { return &c.Scope }, oneOf(ScopeLocal, ScopeGlobal)).also("SCOPE"),
		text("metrics-addr", "HOST:PORT to serve metrics on, such as 127.0.0.1:9477 (default none)",
			func(c *Config) *string { return &c.MetricsAddr }, metricsAddr),
		{
			Flag: "pprof", Env: []string{envPrefix + "PPROF"}, Switch: true,
			Usage: "serve Go's profiles at --metrics-addr too",
			get:   func(c *Config) string { return strconv.FormatBool(c.Pprof) },
			set: func(c *Config, v string) (err error) {
				if c.Pprof, err = strconv.ParseBool(v); err != nil {
					return errors.New("true or false")
				}
				return nil
			},
			check: func(c *Config) error {
				if c.Pprof && c.MetricsAddr == "" {
					return errors.New("possible without --metrics-addr, where profiles are served")
				}
				return nil
			},
		},
	}
}

// mirrorSettings are those of networks that are created once and used everywhere.
func mirrorSettings() []Setting {
	return []Setting{
		yesNo("mirror", "create the cluster's networks on this host by themselves: true or false",
			func(c *Config) *bool { return &c.Mirror }),
		text("default-network", `name of the network that a new cluster begins with, or "none"`,
			func(c *Config) *string { return &c.DefaultNetwork }, networkName),
		{
			Flag: "default-subnet", Env: []string{envPrefix + "DEFAULT_SUBNET"},
			Usage: "subnet of that network (default one that is free)",
			get: func(c *Config) string {
				if !c.DefaultSubnet.IsValid() {
					return ""
				}
				return c.DefaultSubnet.String()
			},
			set: setDefaultSubnet,
		},
		addressPools(),
	}
}

func setDefaultSubnet(c *Config, v string) error {
	if v == "" {
		c.DefaultSubnet = netip.Prefix{}
		return nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil || p != p.Masked() || p.Bits() == 0 {
		return errors.New("a subnet such as 10.1.0.0/16, or nothing")
	}
	c.DefaultSubnet = p
	return nil
}

// addressPools is where subnets are cut from that nobody names.
func addressPools() Setting {
	return text("address-pools", "where subnets come from that nobody names: PREFIX:BITS, comma-separated (IPv6: default a random ULA /64)",
		func(c *Config) *string { return &c.AddressPools }, func(v string) error { _, err := parsePools(v); return err })
}

// networkSettings are those that concern packets and this host's identity.
func networkSettings() []Setting {
	return []Setting{
		{
			Flag: "advertise", Env: []string{envPrefix + "ADVERTISE"},
			Usage: "this host's tunnel address (default that of the default route)",
			get: func(c *Config) string {
				if !c.Advertise.IsValid() {
					return ""
				}
				return c.Advertise.String()
			},
			set: func(c *Config, v string) error { return setAdvertise(c, v) },
			check: func(c *Config) error {
				return advertisable(c.Advertise)
			},
		},
		text("tunnel", "who encapsulates packets between hosts: auto, ovs or kernel",
			func(c *Config) *TunnelKind { return &c.Tunnel }, oneOf(TunnelAuto, TunnelOVS, TunnelKernel)),
		{
			Flag: "vxlan-port", Env: []string{envPrefix + "VXLAN_PORT"},
			Usage: "UDP port of the tunnels, the same on all hosts",
			get:   func(c *Config) string { return strconv.Itoa(int(c.VXLANPort)) },
			set: func(c *Config, v string) error {
				n, err := strconv.ParseUint(v, 10, 16)
				if err != nil {
					return errPort
				}
				c.VXLANPort = uint16(n)
				return nil
			},
			check: func(c *Config) error {
				if c.VXLANPort == 0 {
					return errPort
				}
				return nil
			},
		},
		yesNo("track-tunnels", "let conntrack track the tunnels' packets, for firewalls that accept them only as new connections: true or false",
			func(c *Config) *bool { return &c.TrackTunnels }),
		text("name", "this host's name, for people (default the host name)",
			func(c *Config) *string { return &c.Name }, hostName),
	}
}

// logSettings are those of the log.
func logSettings() []Setting {
	return []Setting{
		{
			Flag: "log-level", Env: []string{envPrefix + "LOG_LEVEL"},
			Usage: "lowest level that is logged: debug, info, warn or error",
			get:   func(c *Config) string { return strings.ToLower(c.LogLevel.String()) },
			set:   setLogLevel,
		},
		text("log-format", "form of the log: text or json",
			func(c *Config) *LogFormat { return &c.LogFormat }, oneOf(LogText, LogJSON)),
	}
}

// text is a setting that is a string in the struct too.
func text[T ~string](flag, usage string, field func(*Config) *T, check func(T) error) Setting {
	return Setting{
		Flag: flag, Env: []string{envPrefix + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")},
		Usage: usage,
		get:   func(c *Config) string { return string(*field(c)) },
		set:   func(c *Config, v string) error { *field(c) = T(v); return nil },
		check: func(c *Config) error { return check(*field(c)) },
	}
}

// yesNo is a setting that is true or false.
func yesNo(flag, usage string, field func(*Config) *bool) Setting {
	return Setting{
		Flag: flag, Env: []string{envPrefix + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")},
		Usage: usage,
		get:   func(c *Config) string { return strconv.FormatBool(*field(c)) },
		set: func(c *Config, v string) (err error) {
			if *field(c), err = strconv.ParseBool(v); err != nil {
				return errors.New("true or false")
			}
			return nil
		},
	}
}

// also adds an environment variable that other programs read too; ours wins.
func (s Setting) also(env string) Setting {
	s.Env = append(s.Env, env)
	return s
}

func consulToken() Setting {
	return Setting{
		Env:    []string{envPrefix + "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN"},
		Usage:  "Consul's ACL token",
		secret: true,
		get:    func(c *Config) string { return c.ConsulToken.String() },
		set: func(c *Config, v string) error {
			c.ConsulToken = NewSecret(strings.TrimSpace(v)) // a token read from a file ends with a newline
			return nil
		},
		check: func(c *Config) error { return tokenText(c.ConsulToken.Reveal()) },
	}
}

func setAdvertise(c *Config, v string) error {
	if v == "" {
		c.Advertise = netip.Addr{}
		return nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		return errAdvertise
	}
	c.Advertise = a.Unmap()
	return nil
}

func setLogLevel(c *Config, v string) error {
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	for _, l := range levels {
		if strings.EqualFold(v, l.String()) {
			c.LogLevel = l
			return nil
		}
	}
	return fmt.Errorf("debug, info, warn or error")
}

// settingNamed returns the row of a flag, the zero Setting if there is none.
func settingNamed(flag string) Setting {
	for _, s := range Settings() {
		if s.Flag == flag {
			return s
		}
	}
	return Setting{}
}
