package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// Consul is a real server in the underlay.
type Consul struct {
	// Addr is where the hosts reach it, "IP:PORT".
	Addr string
	// Socket serves the same HTTP API to programs on the machine, which can't reach Addr.
	Socket string

	lab    *Lab
	index  int
	opened process
	proc   *testenv.Process
}

// addConsuls describes the servers; they are started each by itself.
func (l *Lab) addConsuls() {
	for i := range l.opts.Servers {
		name := "consul"
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		l.Consuls = append(l.Consuls, &Consul{Addr: joinPort(consulAddr(i).String(), 8500), Socket: filepath.Join(l.opts.Dir, name, "http.sock"),
			lab: l, index: i})
	}
	l.Consul = l.Consuls[0]
}

// Start starts the server over its former data, if any, and waits until it accepts writes.
func (c *Consul) Start(ctx context.Context) error {
	dir := filepath.Dir(c.Socket)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("consul: %w", err)
	}
	binary, err := testenv.ConsulBinary()
	if err != nil {
		return fmt.Errorf("consul: %w", err)
	}
	config := testenv.ConsulConfig{Dir: dir, IP: consulAddr(c.index).String(), HTTP: 8500, Server: 8300, Serf: 8301, Socket: c.Socket}
	if n := c.lab.opts.Servers; n > 1 {
		others := make([]string, n)
		for i := range others {
			others[i] = consulAddr(i).String()
		}
		config.Extra = map[string]any{"bootstrap_expect": n, "retry_join": others, "retry_interval": "1s"}
	}
	if err := config.Write(); err != nil {
		return err
	}
	if c.proc == nil {
		c.proc = testenv.NewProcess(filepath.Join(dir, "consul.log"), "nsenter", "--net=/run/netns/"+c.lab.netns("und"),
			binary, "agent", "-config-file="+filepath.Join(dir, "consul.json"))
		c.proc.Detached = c.lab.opts.Detached
	}
	if err := c.proc.Start(); err != nil {
		return err
	}
	if err := c.record(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.lab.opts.Patience)
	defer cancel()
	if err := testenv.WaitConsul(ctx, c.Client(), "consul", c.proc); err != nil {
		return err
	}
	c.lab.opts.Log("consul runs at %s", c.Addr)
	return nil
}

func (c *Consul) record() error {
	c.lab.mu.Lock()
	defer c.lab.mu.Unlock()
	c.lab.state.Consuls[c.index] = identify(c.proc.Pid())
	return c.lab.state.save()
}

// Stop ends the server with SIGTERM; its data stays.
func (c *Consul) Stop() {
	if c.proc != nil {
		c.proc.Stop(10 * time.Second)
		return
	}
	if c.opened.alive() {
		_ = syscall.Kill(c.opened.Pid, syscall.SIGTERM) // It may end by itself in this moment.
	}
}

// Kill ends the server as a crash would; its data stays.
func (c *Consul) Kill() {
	if c.proc != nil {
		c.proc.Kill()
	}
}

// Pause freezes the server: it accepts connections and answers nothing. Resume ends that.
func (c *Consul) Pause() { c.proc.Signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (c *Consul) Resume() { c.proc.Signal(syscall.SIGCONT) }

// Leads says whether the server leads its cluster, as far as it knows itself.
func (c *Consul) Leads(ctx context.Context) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul/v1/agent/self", nil)
	if err != nil {
		return false, err
	}
	resp, err := c.Client().Do(req)
	if err != nil {
		return false, fmt.Errorf("consul at %s: %w", c.Addr, err)
	}
	defer resp.Body.Close()
	var self struct {
		Stats struct{ Consul struct{ Leader string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&self); err != nil {
		return false, fmt.Errorf("consul at %s: %s: %w", c.Addr, resp.Status, err)
	}
	return self.Stats.Consul.Leader == "true", nil
}

// Client reaches the server's HTTP API by its socket, whatever the host in the URL.
func (c *Consul) Client() *http.Client { return unixClient(c.Socket) }

// Keys gives all keys under a prefix with their values.
func (c *Consul) Keys(ctx context.Context, prefix string) (map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul/v1/kv/"+prefix+"?recurse", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("keys of consul: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return map[string]string{}, nil
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("keys of consul: %s", resp.Status)
	}
	var pairs []struct {
		Key   string
		Value []byte
	}
	if err := json.NewDecoder(resp.Body).Decode(&pairs); err != nil {
		return nil, fmt.Errorf("keys of consul: %w", err)
	}
	keys := make(map[string]string, len(pairs))
	for _, p := range pairs {
		keys[p.Key] = string(p.Value)
	}
	return keys, nil
}
