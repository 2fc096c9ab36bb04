package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/test/lab"
)

// The traffic of TestAgentsRestartUnderTraffic: about eight seconds.
const (
	manyPings     = 8000
	streamSeconds = 8
)

// TestAgentsRestartUnderTraffic: while a thousand pings a second and a TCP stream pass between two hosts, both agents are killed, or stopped, and
// started again and again. At no moment is a flow, a port or a forwarding entry of the traffic missing on either, and the stream ends well. Pings are
// counted for the log only: a switch in user space loses some by itself where the machine is busy.
func TestAgentsRestartUnderTraffic(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 5*time.Minute)
	all := w.members(ctx, t)
	all[0].reachable(ctx, t, all[1].addr)
	var followers []*ovs.Follower
	var entries []*background
	for _, h := range w.Hosts[:2] {
		// What former tests made may still go.
		eventually(ctx, t, patience, func(ctx context.Context) error {
			ports, err := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "list-ports", "socketplane0")
			if err == nil && strings.Count(ports, "sph") != 1 {
				err = fmt.Errorf("%s has more ports than one container's: %s", h.Name, ports)
			}
			return err
		})
		entries = append(entries, followForwarding(ctx, t, h))
		f := ovs.FollowIn(t, h.EnterCommand(), "socketplane0")
		f.Keep(func(flow ovs.Flow) bool {
			return slices.ContainsFunc(all, func(c *container) bool { return strings.Contains(flow.String(), c.mac) })
		})
		followers = append(followers, f)
	}
	restarts := 0
	lost := traffic(ctx, t, all[0], all[1], func() {
		h := w.Hosts[restarts%2]
		if restarts%4 < 2 {
			h.KillAgent()
		} else if err := h.StopAgent(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.StartAgent(ctx), h.WaitReady(ctx)); err != nil {
			t.Fatal(err)
		}
		restarts++
	}, func() bool { return restarts >= 4 })
	t.Logf("%d restarts, %d of %d pings lost, %d and %d flows needed", restarts, lost, manyPings, followers[0].Needed(), followers[1].Needed())
	for i, h := range w.Hosts[:2] {
		for _, gap := range followers[i].Gaps() {
			t.Errorf("%s: %s", h.Name, gap)
		}
		for line := range strings.Lines(entries[i].text()) {
			if strings.HasPrefix(line, "Deleted ") && strings.Contains(line, " dst ") {
				t.Errorf("%s: a tunnel's forwarding entry was missing: %s", h.Name, line)
			}
		}
	}
}

// followForwarding has the kernel tell each change of forwarding entries.
func followForwarding(ctx context.Context, t *testing.T, h *lab.Host) *background {
	t.Helper()
	b := spawn(t, append(h.EnterCommand(), "bridge", "monitor", "fdb")...)
	// It says nothing when it listens: an entry of ours shows it.
	const mark = "02:00:5e:00:53:01"
	eventually(ctx, t, patience, func(context.Context) error {
		for _, verb := range []string{"append", "del"} {
			if _, err := h.Exec(ctx, "bridge", "fdb", verb, mark, "dev", "eth0", "self"); err != nil {
				return err
			}
		}
		if !strings.Contains(b.text(), mark) {
			return errors.New("bridge monitor does not listen yet")
		}
		return nil
	})
	return b
}

// traffic sends pings and a stream, does something meanwhile again and again until enough says so, fails the test if the stream does not arrive, and tells
// how many pings were lost.
func traffic(ctx context.Context, t *testing.T, from, to *container, again func(), enough func() bool) (lost int) {
	t.Helper()
	server := to.spawn(t, "iperf3", "-s", "-1", "--forceflush")
	server.says(ctx, t, "listening")
	stream := from.spawn(t, "iperf3", "-c", to.addr.String(), "-t", strconv.Itoa(streamSeconds), "-b", "50M", "--forceflush")
	ping := from.spawn(t, "ping", "-q", "-i", "0.001", "-c", strconv.Itoa(manyPings), "-W", "5", to.addr.String())
	for ping.running() || stream.running() || !enough() {
		again()
		if ctx.Err() != nil {
			t.Fatalf("ping or iperf3 does not end: %s %s", ping.text(), stream.text())
		}
	}
	if out := stream.text(); !strings.Contains(out, "receiver") {
		t.Errorf("the stream ended: %s %s", out, stream.err.String())
	}
	var sent, got int
	for line := range strings.Lines(ping.text()) {
		_, _ = fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &got) // other lines don't match
	}
	if sent != manyPings {
		t.Fatalf("ping: %s %s", ping.text(), ping.err.String())
	}
	return sent - got
}

func (b *background) running() bool {
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}
