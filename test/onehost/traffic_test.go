package onehost

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/bare"
)

// The traffic of TestRestartsUnderTraffic: about eight seconds.
const (
	pings   = 8000
	seconds = 8
)

var counted = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// TestRestartsUnderTraffic: while a thousand pings a second and a TCP stream pass, the agent is killed, or stopped, and started again and again. At no
// moment is a flow missing, or a port away, and the stream ends well. Pings are counted for the log only: a switch in user space loses some by itself
// where the machine is busy.
func TestRestartsUnderTraffic(t *testing.T) {
	testenv.Need(t, "ping", "iperf3")
	h := newHost(t)
	h.start()
	ctx := h.Deadline(6 * patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/22", "")
	if err != nil {
		t.Fatal(err)
	}
	var inside, addrs []string
	for i := range 2 {
		e, err := n.Join(ctx, id("ep", i), mac(i))
		if err != nil {
			t.Fatal(err)
		}
		inside, addrs = append(inside, h.container(e)), append(addrs, e.Addr)
	}
	h.Eventually("the containers talk", func() error {
		return exec.Command("nsenter", "--net=/run/netns/"+inside[0], "ping", "-c", "1", "-W", "1", addrs[1]).Run()
	})
	w := &wire{h: h, from: inside[0], to: inside[1], addr: addrs[1]}
	follower := h.OVS.Follow(bare.Bridge)
	restarts := 0
	lost := w.traffic(ctx, t, func() {
		if restarts%2 == 0 {
			h.kill()
		} else {
			h.stop()
		}
		h.start()
		restarts++
	})
	t.Logf("%d restarts, %d of %d pings lost, %d flows needed", restarts, lost, pings, follower.Needed())
	if restarts < 2 {
		t.Errorf("the agent was restarted %d times", restarts)
	}
	follower.Check()
}

// wire is the way between two containers.
type wire struct {
	h              *host
	from, to, addr string
}

// traffic sends pings and a stream, does something meanwhile again and again, fails the test if the stream does not arrive, and tells how many
// pings were lost.
func (w *wire) traffic(ctx context.Context, t *testing.T, again func()) (lost int) {
	t.Helper()
	server := testenv.NewProcess(w.h.Path("iperf3.log"), "nsenter", "--net=/run/netns/"+w.to, "iperf3", "-s", "-1", "--forceflush")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	w.h.Eventually("iperf3 listens", func() error {
		if !strings.Contains(w.h.Run("nsenter", "--net=/run/netns/"+w.to, "ss", "-ltn"), ":5201") {
			return errNotYet
		}
		return nil
	})
	ping := w.run(ctx, "ping", "-q", "-i", "0.001", "-c", strconv.Itoa(pings), "-W", "5", w.addr)
	stream := w.run(ctx, "iperf3", "-c", w.addr, "-t", strconv.Itoa(seconds), "-b", "50M")
	for ping.running() || stream.running() {
		again()
	}
	if stream.err != nil {
		t.Errorf("the stream: %v\n%s", stream.err, stream.out)
	}
	m := counted.FindSubmatch(ping.out)
	if ping.err != nil || m == nil {
		t.Fatalf("ping: %v\n%s", ping.err, ping.out)
	}
	sent, _ := strconv.Atoi(string(m[1])) // digits
	got, _ := strconv.Atoi(string(m[2]))
	return sent - got
}

// command is a program that runs beside the test; its output is there when it does not run any more.
type command struct {
	out  []byte
	err  error
	done chan struct{}
}

// run starts a program where the traffic comes from.
func (w *wire) run(ctx context.Context, args ...string) *command {
	c := &command{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.out, c.err = exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + w.from}, args...)...).CombinedOutput()
	}()
	return c
}

func (c *command) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}
