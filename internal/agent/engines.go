package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/engine"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// engine is the Docker Engine whose networks the agent follows.
func (a *agent) engine() engine.Engine { return engine.New(a.cfg.DockerHost) }

// callerOf is the process at the other end of a connection to Docker's socket, 0 if it can't be seen.
func callerOf(conn net.Conn) int {
	pid, err := engine.PeerPID(conn)
	if err != nil {
		return 0
	}
	return pid
}

// admit refuses networks to another Docker Engine than the one whose networks the agent follows: it would take them for removed, as that
// one does not list them. A caller of which this can't be told is marked.
func (a *agent) admit(ctx context.Context) (mark string, err error) {
	caller := netapi.Caller(ctx)
	if a.cfg.DockerHost == config.DockerNone {
		return "", nil // no engine is followed
	}
	switch a.engine().Judge(ctx, caller) {
	case engine.Other:
		return "", fmt.Errorf("%w (process %d) asks for a network, but the agent at this socket serves the one at %s: "+
			"create the network there, or give this engine a /run/docker/plugins of its own and an agent of its own "+
			"(--plugin-socket, --admin-socket, --state-dir, --ovsdb, --docker-host)", engine.ErrOther, caller, a.cfg.DockerHost)
	case engine.Ours:
		return "", nil
	}
	return a.engine().Mark(caller), nil
}

// admitted is address management that gives no subnet to another engine.
type admitted struct {
	plugin.IPAMDriver
	agent *agent
}

func (i admitted) RequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	if _, err := i.agent.admit(ctx); err != nil {
		return nil, err
	}
	return i.IPAMDriver.RequestPool(ctx, r)
}
