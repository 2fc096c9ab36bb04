package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// Consul is the real server in the underlay.
type Consul struct {
	// Addr is where the hosts reach it, "IP:PORT".
	Addr string
	// Socket serves the same HTTP API to programs on the machine, which can't reach Addr.
	Socket string

	lab    *Lab
	opened process
	proc   *testenv.Process
}

func newConsul(l *Lab) *Consul {
	dir := filepath.Join(l.opts.Dir, "consul")
	return &Consul{Addr: joinPort(consulAddr.String(), 8500), Socket: filepath.Join(dir, "http.sock"), lab: l}
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
	config := testenv.ConsulConfig{Dir: dir, IP: consulAddr.String(), HTTP: 8500, Server: 8300, Serf: 8301, Socket: c.Socket}
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
	c.lab.state.Consul = identify(c.proc.Pid())
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
