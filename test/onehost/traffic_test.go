package onehost

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
)

// The traffic of TestRestartsUnderTraffic: about eight seconds.
const (
	pings   = 8000
	seconds = 8
)

var (
	stalled = regexp.MustCompile(`(?m)^\[.*\s0\.00 bits/sec.*$`)
	counted = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
)

// TestRestartsUnderTraffic: an agent that is stopped and started, or killed and started, while a thousand pings a second and a TCP
// stream pass, loses none of them: no more than are lost without.
func TestRestartsUnderTraffic(t *testing.T) {
	testenv.Need(t, "ping", "iperf3")
	h := newHost(t)
	h.start()
	ctx := h.deadline(6 * patience)
	n, err := h.docker().network(ctx, id("net", 1), "10.1.0.0/22")
	if err != nil {
		t.Fatal(err)
	}
	var inside, addrs []string
	for i := range 2 {
		e, err := n.join(ctx, id("ep", i), i)
		if err != nil {
			t.Fatal(err)
		}
		inside, addrs = append(inside, h.container(e)), append(addrs, e.addr)
	}
	h.eventually("the containers talk", func() error {
		return exec.Command("nsenter", "--net=/run/netns/"+inside[0], "ping", "-c", "1", "-W", "1", addrs[1]).Run()
	})
	w := &wire{h: h, from: inside[0], to: inside[1], addr: addrs[1]}
	// The switch forwards in user space here: on a busy machine it loses frames whatever the agent does, and its start makes the machine busier. An agent
	// that interrupts traffic does so each time.
	const tries = 3
	for range tries {
		restarts := 0
		lost, stream := w.traffic(ctx, t, func() {
			if restarts%2 == 0 {
				h.kill()
			} else {
				h.stop()
			}
			h.start()
			restarts++
		})
		t.Logf("%d restarts, %d of %d pings lost, the stream: %v", restarts, lost, pings, stream)
		if restarts < 2 {
			t.Errorf("the agent was restarted %d times", restarts)
		}
		if lost == 0 && stream == nil {
			return
		}
		alone, aloneStream := w.traffic(ctx, t, nil)
		t.Logf("%d of %d pings lost while the agent was left alone, the stream: %v", alone, pings, aloneStream)
		if lost <= 2*alone && (stream == nil || aloneStream != nil) {
			return
		}
	}
	t.Errorf("restarts cost pings, or stopped the stream, %d times of %d", tries, tries)
}

// wire is the way between two containers.
type wire struct {
	h              *host
	from, to, addr string
}

// traffic sends pings and a stream, does something meanwhile again and again, and tells how many pings were lost and what was wrong with the stream.
func (w *wire) traffic(ctx context.Context, t *testing.T, again func()) (lost int, stalls error) {
	t.Helper()
	server := testenv.NewProcess(w.h.path("iperf3.log"), "nsenter", "--net=/run/netns/"+w.to, "iperf3", "-s", "-1", "--forceflush")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	w.h.eventually("iperf3 listens", func() error {
		if !strings.Contains(w.h.run("nsenter", "--net=/run/netns/"+w.to, "ss", "-ltn"), ":5201") {
			return errNotYet
		}
		return nil
	})
	type result struct {
		out []byte
		err error
	}
	run := func(args ...string) <-chan result {
		done := make(chan result, 1)
		go func() {
			out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + w.from}, args...)...).CombinedOutput()
			done <- result{out, err}
		}()
		return done
	}
	ping := run("ping", "-q", "-i", "0.001", "-c", strconv.Itoa(pings), "-W", "5", w.addr)
	stream := run("iperf3", "-c", w.addr, "-t", strconv.Itoa(seconds), "-b", "50M")
	var pinged, streamed result
	for left := 2; left > 0; {
		if again != nil {
			again()
		}
		select {
		case pinged = <-ping:
			left, ping = left-1, nil
		case streamed = <-stream:
			left, stream = left-1, nil
		default:
			if again == nil {
				select {
				case pinged = <-ping:
					left, ping = left-1, nil
				case streamed = <-stream:
					left, stream = left-1, nil
				}
			}
		}
	}
	if streamed.err != nil || stalled.Match(streamed.out) {
		stalls = fmt.Errorf("it stalled or ended: %v\n%s", streamed.err, streamed.out)
	}
	m := counted.FindSubmatch(pinged.out)
	if pinged.err != nil || m == nil {
		t.Fatalf("ping: %v\n%s", pinged.err, pinged.out)
	}
	sent, _ := strconv.Atoi(string(m[1])) // digits
	got, _ := strconv.Atoi(string(m[2]))
	return sent - got, stalls
}
