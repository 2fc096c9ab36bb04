package consulproc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
)

// Ports of the process. All but HTTPS, which is on the loopback, are bound to the advertised address.
type Ports struct{ RPC, Gossip, HTTPS uint16 }

// Spec is how the process is wanted. It holds secrets, and prints without them.
type Spec struct {
	// Host is the host's id, which becomes the name of Consul's node and, hashed, its id.
	Host       string
	Datacenter string
	// Server makes it a server; Bootstrap one that makes a new Raft of its own. Bootstrap means nothing where there is one already.
	Server, Bootstrap bool
	Addr              netip.Addr
	Ports             Ports
	// Join are the gossip addresses, HOST:PORT, that it tries at its start.
	Join []string
	// GossipKeys are base64; the first encrypts, the others are still understood.
	GossipKeys []string
	// CA, Cert and Key are PEM. A change is taken up without a restart.
	CA, Cert, Key []byte
	// AgentToken is for Consul's own bookkeeping of its node. A change is taken up without a restart.
	AgentToken string
	// ManagementToken is for the server that makes a new Raft: it is there from Raft's first moment. Others get it from Raft.
	ManagementToken string
	// RecoveryToken lets its holder see and change whom this process gossips with, also while it can't look any other token up.
	RecoveryToken string
}

// LogValue implements slog.LogValuer without the secrets.
func (s Spec) LogValue() slog.Value {
	return slog.GroupValue(slog.String("host", s.Host), slog.Bool("server", s.Server), slog.Any("addr", s.Addr))
}

// String is Spec without the secrets.
func (s Spec) String() string {
	return fmt.Sprintf("host %s, server %t, address %s", s.Host, s.Server, s.Addr)
}

// GoString is String.
func (s Spec) GoString() string { return s.String() }

// nodeID is a UUID that the host always has.
func nodeID(host string) string {
	h := sha256.Sum256([]byte("socketplane consul node " + host))
	t := hex.EncodeToString(h[:16])
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}

// NodeID is the id of a host's node in Consul, by which Raft knows its servers.
func NodeID(host string) string { return nodeID(host) }

// Names of what is in the process's directory.
const (
	dataDir     = "data"
	raftDir     = "raft"
	keyringFile = "serf/local.keyring" // below dataDir
	caFile      = "ca.pem"
	certFile    = "cert.pem"
	keyFile     = "key.pem"
	logFile     = "consul.log"
)

// fixed renders what a running process can't change; its hash tells whether a process runs as wanted.
func (s Spec) fixed(dir string) map[string]any {
	return map[string]any{
		"server": s.Server, "node_name": s.Host, "node_id": nodeID(s.Host), "disable_host_node_id": true,
		"datacenter": s.Datacenter, "primary_datacenter": s.Datacenter, "data_dir": filepath.Join(dir, dataDir),
		"bind_addr": s.Addr.String(), "advertise_addr": s.Addr.String(), "client_addr": "127.0.0.1",
		"ports": map[string]int{
			"server": int(s.Ports.RPC), "serf_lan": int(s.Ports.Gossip), "https": int(s.Ports.HTTPS),
			"http": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1,
		},
		"acl": map[string]any{"enabled": true, "default_policy": "deny", "down_policy": "extend-cache"},
		"tls": map[string]any{
			"defaults": map[string]any{
				"ca_file": filepath.Join(dir, caFile), "cert_file": filepath.Join(dir, certFile), "key_file": filepath.Join(dir, keyFile),
				"verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": map[string]any{"verify_server_hostname": true},
		},
		"performance": map[string]any{"raft_multiplier": 1, "leave_drain_time": "500ms"},
		// Who is a server is decided outside: Consul must not remove any by itself. A server that has caught up votes at once.
		"autopilot": map[string]any{
			"cleanup_dead_servers": false, "server_stabilization_time": "500ms", "last_contact_threshold": "2s",
		},
		"connect": map[string]bool{"enabled": false}, "peering": map[string]bool{"enabled": false},
		"leave_on_terminate": false, "skip_leave_on_interrupt": true, "rejoin_after_leave": true,
		"disable_update_check": true, "enable_debug": false, "disable_remote_exec": true, "disable_anonymous_signature": true,
		"log_json": true, "log_level": "info", "retry_interval": "1s",
	}
}

// render returns the configuration's text and the hash of what needs a restart.
func (s Spec) render(dir string) (text []byte, hash string, err error) {
	config := s.fixed(dir)
	fixed, err := json.Marshal(config)
	if err != nil {
		return nil, "", fmt.Errorf("configuration of Consul: %w", err)
	}
	sum := sha256.Sum256(fixed)
	tokens := map[string]string{"agent": s.AgentToken, "default": s.AgentToken, "agent_recovery": s.RecoveryToken}
	if s.Server && s.Bootstrap {
		tokens["initial_management"] = s.ManagementToken
	}
	config["acl"].(map[string]any)["tokens"] = tokens
	join := slices.Clone(s.Join)
	slices.Sort(join)
	config["retry_join"] = append([]string{}, join...)
	if text, err = json.MarshalIndent(config, "", "  "); err != nil {
		return nil, "", fmt.Errorf("configuration of Consul: %w", err)
	}
	return text, hex.EncodeToString(sum[:8]), nil
}
