package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Ports of a test's Consul server. They are apart from Consul's own, so that a server of the machine which
// listens on every address is not in the way; servers of several tests differ in their loopback address.
const (
	consulHTTP   = 18500
	consulServer = 18300
	consulSerf   = 18301
)

// consulReady bounds the wait for a server's first write: 2.5 s on two quiet cores, much more on busy ones.
const consulReady = 60 * time.Second

// ConsulServer is one real Consul server with its data in a directory of its own. Its methods end the test
// when they fail. It is for one goroutine at a time.
type ConsulServer struct {
	// Addr is the HTTP address as "IP:PORT", the same after a restart.
	Addr string
	// Socket is a unix socket that serves the same, for programs in other network namespaces.
	Socket string

	dir  string
	t    testing.TB
	proc *Process
}

// Consul starts a Consul server of one, ready for writes; it ends with the test.
func Consul(t testing.TB) *ConsulServer {
	t.Helper()
	Real(t)
	binary, err := ConsulBinary()
	if err != nil {
		Missing(t, err.Error())
	}
	ip := loopback()
	// Not t.TempDir: its length depends on the test's name, and the path of a unix socket has 107 bytes.
	dir, err := os.MkdirTemp("", "sp-consul-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &ConsulServer{Addr: net.JoinHostPort(ip, strconv.Itoa(consulHTTP)), Socket: filepath.Join(dir, "http.sock"), dir: dir, t: t}
	config := ConsulConfig{Dir: s.dir, IP: ip, HTTP: consulHTTP, Server: consulServer, Serf: consulSerf, Socket: s.Socket}
	if err := config.Write(); err != nil {
		t.Fatal(err)
	}
	s.proc = NewProcess(filepath.Join(s.dir, "consul.log"), binary, "agent", "-config-file="+filepath.Join(s.dir, "consul.json"))
	t.Cleanup(func() { s.proc.Stop(5 * time.Second) })
	s.Start()
	return s
}

// loopback is an address that other tests hardly have.
func loopback() string {
	return net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(256)), byte(1+rand.IntN(250))).String()
}

// ConsulBinary finds consul in the tool cache or on the PATH.
func ConsulBinary() (string, error) {
	path, err := Tool("consul")
	if err == nil {
		return path, nil
	}
	if path, lookErr := exec.LookPath("consul"); lookErr == nil {
		return path, nil
	}
	return "", err
}

// Start starts a stopped server over the same data and waits until it accepts a write.
func (s *ConsulServer) Start() {
	s.t.Helper()
	if err := s.proc.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), consulReady)
	defer cancel()
	if err := WaitConsul(ctx, http.DefaultClient, s.Addr, s.proc); err != nil {
		s.t.Fatal(err)
	}
}

// Stop ends the server with SIGTERM: a quick end without leaving.
func (s *ConsulServer) Stop() { s.proc.Stop(10 * time.Second) }

// Kill ends the server with SIGKILL, as a crash would.
func (s *ConsulServer) Kill() { s.proc.Kill() }

// Restart stops the server and starts it again.
func (s *ConsulServer) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// ConsulConfig describes a server of one.
type ConsulConfig struct {
	// Dir gets consul.json and the data.
	Dir string
	// IP is what it binds to.
	IP string
	// Ports of its HTTP API, of its RPC and of its gossip.
	HTTP, Server, Serf int
	// Socket is a unix socket that serves the HTTP API too, for those who can't reach IP; "" for none.
	Socket string
	// Extra is added to the configuration.
	Extra map[string]any
}

// Write writes the configuration to Dir/consul.json.
func (c ConsulConfig) Write() error {
	http := c.IP
	if c.Socket != "" {
		http += " unix://" + c.Socket
	}
	config := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "consul-" + strings.ReplaceAll(c.IP, ".", "-"),
		"data_dir":  filepath.Join(c.Dir, "data"),
		"bind_addr": c.IP, "client_addr": c.IP, "advertise_addr": c.IP,
		"addresses": map[string]string{"http": http},
		"ports": map[string]int{"http": c.HTTP, "server": c.Server, "serf_lan": c.Serf,
			"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1},
		"performance": map[string]int{"raft_multiplier": 1},
		"connect":     map[string]bool{"enabled": false}, "peering": map[string]bool{"enabled": false},
		"disable_update_check": true, "leave_on_terminate": false, "skip_leave_on_interrupt": true,
	}
	maps.Copy(config, c.Extra)
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("consul configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "consul.json"), text, 0o600); err != nil {
		return fmt.Errorf("consul configuration: %w", err)
	}
	return nil
}

// WaitConsul waits until the server at addr accepts a write; it fails early when proc, which may be nil, has ended.
func WaitConsul(ctx context.Context, client *http.Client, addr string, proc *Process) error {
	var last error
	err := Poll(ctx, 50*time.Millisecond, func() bool {
		if proc != nil && !proc.Running() {
			last = errors.New("the process has ended")
			return true
		}
		last = consulWrite(ctx, client, addr)
		return last == nil
	})
	if last == nil && err == nil {
		return nil
	}
	tail := ""
	if proc != nil {
		tail = "\n" + proc.Tail(20)
	}
	return fmt.Errorf("consul at %s accepts no write: %w%s", addr, errors.Join(last, err), tail)
}

func consulWrite(ctx context.Context, client *http.Client, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+addr+"/v1/kv/testenv/ready", strings.NewReader("1"))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// WriteConsulConfig writes dir/consul.json for a server of one without a socket.
func WriteConsulConfig(dir, ip string, httpPort, serverPort, serfPort int) error {
	return ConsulConfig{Dir: dir, IP: ip, HTTP: httpPort, Server: serverPort, Serf: serfPort}.Write()
}
