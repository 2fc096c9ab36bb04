package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The traffic of TestAgentsRestartUnderTraffic: about eight seconds.
const (
	manyPings     = 8000
	streamSeconds = 8
)

// TestAgentsRestartUnderTraffic: agents of two hosts that are killed, or stopped, and started, while a thousand pings a second and a TCP
// stream pass between these hosts, lose none of them: no more than are lost without.
func TestAgentsRestartUnderTraffic(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 5*time.Minute)
	all := w.members(ctx, t)
	// The switch forwards in user space here: on a busy machine it loses frames whatever the agent does, and its start makes the machine busier. An agent
	// that interrupts traffic does so each time.
	const tries = 3
	restarts := 0
	for range tries {
		before := restarts
		lost, stream := w.traffic(ctx, t, all[0], all[1], func() {
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
		})
		t.Logf("%d restarts, %d of %d pings lost, the stream: %v", restarts-before, lost, manyPings, stream)
		// With a ping each millisecond an interruption costs one or more; and if only kills did it, or only stops, that is every second restart.
		if lost < max(1, (restarts-before)/2) && stream == nil && restarts >= 4 {
			return
		}
		alone, aloneStream := w.traffic(ctx, t, all[0], all[1], nil)
		t.Logf("%d of %d pings lost while the agents were left alone, the stream: %v", alone, manyPings, aloneStream)
		if lost <= 2*alone && (stream == nil || aloneStream != nil) && restarts >= 4 {
			return
		}
	}
	t.Errorf("restarts cost pings, or stopped the stream, %d times of %d, or were too few (%d) to kill and stop either agent", tries, tries, restarts)
}

// traffic sends pings and a stream, does something meanwhile again and again, and tells how many pings were lost and what was wrong with the stream.
func (w *world) traffic(ctx context.Context, t *testing.T, from, to *container, again func()) (lost int, stalls error) {
	t.Helper()
	server := to.spawn(t, "iperf3", "-s", "-1", "--forceflush")
	server.says(ctx, t, "listening")
	stream := from.spawn(t, "iperf3", "-c", to.addr.String(), "-t", strconv.Itoa(streamSeconds), "-b", "50M", "--forceflush")
	ping := from.spawn(t, "ping", "-q", "-i", "0.001", "-c", strconv.Itoa(manyPings), "-W", "5", to.addr.String())
	for ended := false; !ended; {
		if again != nil {
			again()
		}
		select {
		case <-ping.done:
			ended = true
		case <-ctx.Done():
			t.Fatalf("ping does not end: %s", ping.text())
		default:
			if again == nil {
				<-ping.done
			}
		}
	}
	<-stream.done
	if out := stream.text(); strings.Contains(out, " 0.00 bits/sec") || !strings.Contains(out, "receiver") {
		stalls = fmt.Errorf("it stalled or ended: %s %s", out, stream.err.String())
	}
	var sent, got int
	for line := range strings.Lines(ping.text()) {
		_, _ = fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &got) // other lines don't match
	}
	if sent != manyPings {
		t.Fatalf("ping: %s %s", ping.text(), ping.err.String())
	}
	return sent - got, stalls
}
