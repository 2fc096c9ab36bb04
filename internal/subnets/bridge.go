package subnets

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

const (
	// joinQuiet is how long no container must have joined before docker_gwbridge is made: Docker makes it itself in the course of a join, and
	// of two at the same moment one fails.
	joinQuiet = 3 * time.Second
	// joinWait bounds how long a join waits for docker_gwbridge that is being made.
	joinWait = 2 * time.Second
	// removedByHand is how long docker_gwbridge must have been missing, if it was there before: who removes it may want another one.
	removedByHand = time.Minute
)

// Joining is called before a container joins a network of ours. It waits a moment if docker_gwbridge is being made, as Docker would
// make it too and fail; the wait is bounded.
func (t *Tracker) Joining(ctx context.Context) {
	t.mu.Lock()
	t.joined = time.Now()
	making := t.making
	t.mu.Unlock()
	if making == nil {
		return
	}
	timer := time.NewTimer(joinWait)
	defer timer.Stop()
	select {
	case <-making:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// bridge makes docker_gwbridge where it is missing.
func (t *Tracker) bridge(ctx context.Context, s state) error {
	if t.opts.Docker == nil || t.opts.Docker.Ready() != nil || !t.wantsBridge() {
		return nil
	}
	subnet, ok := s.gatewaySubnet(nameServers(t.opts.ResolvConf))
	if !ok {
		return nil // Docker says so when a container needs it
	}
	if !t.begin() {
		time.AfterFunc(joinQuiet, t.Wake)
		return nil
	}
	mtu := t.opts.MTU(ctx)
	err := t.opts.Docker.MakeGatewayBridge(ctx, subnet, mtu)
	t.end()
	if err != nil {
		return err
	}
	t.hadBridge = true
	t.log.Info("docker_gwbridge is made, by which containers reach the outside", "subnet", subnet, "mtu", mtu)
	t.Wake() // it is one of this host's uses now
	return nil
}

// wantsBridge says whether docker_gwbridge is missing, and was not removed just now.
func (t *Tracker) wantsBridge() bool {
	t.mu.Lock()
	locals := t.locals
	t.mu.Unlock()
	if slices.ContainsFunc(locals, func(l dockerwatch.Local) bool { return l.Name == dockerwatch.GatewayBridge }) {
		t.hadBridge, t.missing = true, time.Time{}
		return false
	}
	if !t.hadBridge {
		return true
	}
	if t.missing.IsZero() {
		t.missing = time.Now()
		time.AfterFunc(removedByHand, t.nudge)
	}
	return time.Since(t.missing) >= removedByHand
}

// begin notes that docker_gwbridge is being made, unless a container has just joined.
func (t *Tracker) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.joined) < joinQuiet {
		return false
	}
	t.making = make(chan struct{})
	return true
}

func (t *Tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.making)
	t.making = nil
}

// nameServers are the addresses in a resolv.conf; Docker avoids subnets with one of them.
func nameServers(file string) []netip.Addr {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // there may be none
	}
	var servers []netip.Addr
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				servers = append(servers, a.Unmap())
			}
		}
	}
	return servers
}
