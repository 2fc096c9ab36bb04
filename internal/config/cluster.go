package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// ClusterPorts is how many ports a cluster of our own uses: admission, Consul's RPC, gossip and HTTPS.
const ClusterPorts = 4

// leastGrace is the shortest [Config.ServerGrace]: an agent that restarts is not gone.
const leastGrace = time.Second

var (
	errClusterPort = fmt.Errorf("a port from 1 to %d, the first of %d in a row", 65536-ClusterPorts, ClusterPorts)
	errJoin        = errors.New("addresses of hosts, HOST or HOST:PORT, comma-separated")
	errGrace       = fmt.Errorf("a time of at least %s, as in 30s", leastGrace)
)

// clusterSettings are those of the cluster that hosts form by themselves.
func clusterSettings() []Setting {
	return []Setting{
		text("consul-binary", "consul program that a cluster of our own runs (default that of PATH or beside ours)",
			func(c *Config) *string { return &c.ConsulBinary }, emptyOr(absolute)),
		clusterPort(),
		text("join", "hosts whose cluster to join where multicast does not reach: HOST[:PORT], comma-separated",
			func(c *Config) *string { return &c.Join }, func(v string) error { _, err := joinAddresses(v, 1); return err }),
		joinToken(),
		text("join-token-file", "file with the token of a locked cluster; the founder locks its cluster and writes one if there is none",
			func(c *Config) *string { return &c.JoinTokenFile }, emptyOr(absolute)),
		yesNo("multicast", "find the hosts of this network segment by mDNS: true or false",
			func(c *Config) *bool { return &c.Multicast }),
		serverGrace(),
	}
}

func clusterPort() Setting {
	return Setting{
		Flag: "cluster-port", Env: []string{envPrefix + "CLUSTER_PORT"},
		Usage: "first of the four ports of a cluster of our own, the same on all hosts",
		get:   func(c *Config) string { return strconv.Itoa(int(c.ClusterPort)) },
		set: func(c *Config, v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil {
				return errClusterPort
			}
			c.ClusterPort = uint16(n)
			return nil
		},
		check: func(c *Config) error {
			if c.ClusterPort == 0 || c.ClusterPort > 65536-ClusterPorts {
				return errClusterPort
			}
			return nil
		},
	}
}

func joinToken() Setting {
	return Setting{
		Env:    []string{envPrefix + "JOIN_TOKEN"},
		Usage:  "token of a locked cluster, which this host joins; --join-token-file keeps it out of the environment too",
		secret: true,
		get:    func(c *Config) string { return c.JoinToken.String() },
		set: func(c *Config, v string) error {
			c.JoinToken = NewSecret(strings.TrimSpace(v))
			return nil
		},
		check: func(c *Config) error { return tokenText(c.JoinToken.Reveal()) },
	}
}

func serverGrace() Setting {
	return Setting{
		Flag: "server-grace", Env: []string{envPrefix + "SERVER_GRACE"},
		Usage: "how long a server of our own cluster may be down until another host takes its place",
		get:   func(c *Config) string { return c.ServerGrace.String() },
		set: func(c *Config, v string) (err error) {
			if c.ServerGrace, err = time.ParseDuration(v); err != nil {
				return errGrace
			}
			return nil
		},
		check: func(c *Config) error {
			if c.ServerGrace < leastGrace {
				return errGrace
			}
			return nil
		},
	}
}

// JoinAddresses are the hosts of [Config.Join], each HOST:PORT; those without a port have the cluster's.
func (c Config) JoinAddresses() []string {
	all, err := joinAddresses(c.Join, c.ClusterPort)
	if err != nil {
		return nil // Validate refused it
	}
	return all
}

func joinAddresses(text string, port uint16) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var all []string
	for part := range strings.SplitSeq(text, ",") {
		addr, err := JoinAddress(strings.TrimSpace(part), port)
		if err != nil {
			return nil, errJoin
		}
		all = append(all, addr)
	}
	return all, nil
}

// JoinAddress completes HOST, HOST:PORT, IPv6 or [IPv6]:PORT to what can be dialled.
func JoinAddress(text string, port uint16) (string, error) {
	if hostPort(text) != nil {
		text = net.JoinHostPort(strings.Trim(text, "[]"), strconv.Itoa(int(port)))
	}
	host, _, err := net.SplitHostPort(text)
	switch {
	case err != nil || hostPort(text) != nil:
		return "", errJoin
	case net.ParseIP(host) == nil && hostName(host) != nil:
		return "", errJoin
	}
	return text, nil
}

// ReadToken returns the token for joining, empty if there is none: that of the environment, or what read finds in
// [Config.JoinTokenFile]. It is asked when the host joins, so that the file may come later and go afterwards; an error of read
// is returned as it is.
func (c Config) ReadToken(read func(name string) ([]byte, error)) (Secret, error) {
	if c.JoinToken.IsSet() || c.JoinTokenFile == "" {
		return c.JoinToken, nil
	}
	raw, err := read(c.JoinTokenFile)
	if err != nil {
		return Secret{}, err
	}
	text := strings.TrimSpace(string(raw))
	if text == "" || tokenText(text) != nil {
		return Secret{}, fmt.Errorf("%s holds no token: write the one that 'socketplane cluster token create' prints", c.JoinTokenFile)
	}
	return NewSecret(text), nil
}

func emptyOr(check func(string) error) func(string) error {
	return func(v string) error {
		if v == "" {
			return nil
		}
		if err := check(v); err != nil {
			return fmt.Errorf("%w, or nothing", err)
		}
		return nil
	}
}
