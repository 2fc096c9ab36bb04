package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// The agent's sockets, as seen inside a host.
const (
	PluginSocket = "/run/docker/plugins/socketplane.sock"
	AdminSocket  = "/run/socketplane/agent.sock"
)

// agentPatience is how long an agent may take to end by itself.
const agentPatience = 15 * time.Second

// StartAgent starts the agent and waits until its plugin socket accepts, as Docker would; WaitReady waits for more. Flags come after the lab's own, so that they
// win.
func (h *Host) StartAgent(ctx context.Context, flags ...string) error {
	if h.lab.opts.Plugin {
		return h.startManaged(ctx, flags)
	}
	if h.agent != nil && h.agent.Running() {
		return fmt.Errorf("the agent of %s runs already", h.Name)
	}
	if h.AgentBinary() == "" {
		binary, err := BuildAgent(ctx)
		if err != nil {
			return err
		}
		h.lab.opts.Agent = binary
	}
	own, err := h.agentFlags()
	if err != nil {
		return err
	}
	argv := append([]string{h.AgentBinary(), "agent"}, own...)
	argv = append(append(argv, h.lab.opts.AgentFlags...), flags...)
	p, err := h.daemon("agent", nil, argv...)
	if err != nil {
		return err
	}
	h.agent = p
	if err := p.Start(); err != nil {
		return err
	}
	return h.await(ctx, "the agent", p, func() bool { return h.Listening(PluginSocket) })
}

// WaitReady waits until the agent says that networks work on this host.
func (h *Host) WaitReady(ctx context.Context) error {
	if h.lab.opts.Plugin {
		return h.WaitPluginReady(ctx)
	}
	ready := func() bool {
		return unixStatus(ctx, h.runPath(strings.TrimPrefix(AdminSocket, "/run/")), "/readyz") == http.StatusOK
	}
	return h.await(ctx, "the agent", h.agent, ready)
}

func (h *Host) agentFlags() ([]string, error) {
	store := []string{"--store", "bolt"}
	docker := "unix:///run/docker.sock"
	if h.lab.opts.NoDocker {
		docker = "none"
	}
	switch {
	case h.lab.Consul != nil:
		store = []string{"--store", "consul", "--consul-addr", h.lab.Consul.Addr}
	case h.lab.opts.Cluster:
		binary, err := testenv.ConsulBinary()
		if err != nil {
			return nil, fmt.Errorf("consul for a cluster: %w", err)
		}
		store = []string{"--store", "cluster", "--consul-binary", binary}
	}
	return append(store,
		"--state-dir", "/var/lib/socketplane",
		"--plugin-socket", PluginSocket,
		"--admin-socket", AdminSocket,
		"--ovsdb", "unix:/run/openvswitch/db.sock",
		"--docker-host", docker,
		"--advertise", h.Addr.String(),
		"--tunnel", string(h.lab.opts.Tunnel),
		"--name", h.Name,
		"--mirror=false", // tests make their networks on every host; those of mirrors turn it on
		"--log-level", "debug",
	), nil
}

// StopAgent ends the agent with SIGTERM; a managed plugin is disabled, whatever uses it.
func (h *Host) StopAgent() error {
	if h.lab.opts.Plugin {
		return h.stopManaged()
	}
	if h.agent != nil && !h.agent.Stop(agentPatience) {
		return errors.New("the agent of " + h.Name + " did not end within " + agentPatience.String() + ":\n" + h.agent.Tail(20))
	}
	return nil
}

// KillAgent ends the agent as a crash would. Docker starts a managed plugin again by itself; StartAgent waits for that.
func (h *Host) KillAgent() {
	if h.lab.opts.Plugin {
		h.killManaged()
		return
	}
	if h.agent != nil {
		h.agent.Kill()
	}
}

// AgentRunning says whether the agent has not ended.
func (h *Host) AgentRunning() bool { return h.AgentPid() != 0 }

// AgentPid is the agent's process id on the machine; 0 when it does not run.
func (h *Host) AgentPid() int {
	switch {
	case h.lab.opts.Plugin:
		return h.managed().Pid
	case h.agent == nil:
		return 0
	}
	return h.agent.Pid()
}

// RestartAgent stops the agent and starts it, with flags of this run only.
func (h *Host) RestartAgent(ctx context.Context, flags ...string) error {
	if err := h.StopAgent(); err != nil {
		return err
	}
	return h.StartAgent(ctx, flags...)
}

// SocketPlane runs the socketplane command inside the host.
func (h *Host) SocketPlane(ctx context.Context, args ...string) (string, error) {
	binary := h.AgentBinary()
	if binary == "" {
		return "", errors.New("the lab has no socketplane binary")
	}
	return h.Exec(ctx, append([]string{binary}, args...)...)
}

func joinPort(addr string, port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }

// AgentBinary is the socketplane binary of this host: the lab's, unless UseAgent gave another; "" when there is none.
func (h *Host) AgentBinary() string { return cmp.Or(h.binary, h.lab.opts.Agent) }

// UseAgent gives the host another socketplane binary, such as that of another release, from the agent's next start on.
func (h *Host) UseAgent(binary string) { h.binary = binary }
