package agent

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/config"
)

// Docker's calls that need the data plane wait for its first pass, as Docker starts its containers the moment that it can, and does not try again.
const (
	// settleTime is how long after the agent's start they wait where Open vSwitch answers.
	settleTime = 8 * time.Second
	// switchWait is how long a call waits for an Open vSwitch that does not run.
	switchWait = 700 * time.Millisecond
)

// settle waits until packets can be forwarded, for a while after the agent's start.
func (a *agent) settle(ctx context.Context) {
	limit := time.NewTimer(time.Until(a.built.Add(settleTime)))
	defer limit.Stop()
	absent := time.NewTicker(switchWait)
	defer absent.Stop()
	for {
		select {
		case <-a.plane.Up():
			return
		case <-absent.C:
			if !a.switchComes() {
				return
			}
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// switchComes says whether Open vSwitch may answer in a moment: this process starts it, or its database listens.
func (a *agent) switchComes() bool {
	if a.cfg.OVSDB == config.OwnOVSDB && a.isPlugin() {
		return true
	}
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(a.cfg.OVSDB, "unix:"), switchWait)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was asked
	return true
}
