package upgrade

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/test/lab"
)

// pinging is a ping ten times a second, for as long as the test runs.
type pinging struct {
	what string
	proc *testenv.Process
	from int // pings up to this one have been looked at
}

// answerLimit is how long a ping's answer may be under way.
const answerLimit = 3 * time.Second

// traffic lets all standing containers of each network ping each other, and follows the switches' flows and the tunnels' forwarding entries.
func (w *world) traffic(ctx context.Context) {
	w.t.Helper()
	for _, from := range w.standing {
		for _, to := range w.standing {
			for network, there := range to.on {
				if _, is := from.on[network]; !is || from == to {
					continue
				}
				for _, addr := range []string{there.IPAddress, there.GlobalIPv6Address} {
					if addr != "" {
						w.ping(from, fmt.Sprintf("%s of %s to %s of %s at %s", from.name, from.h.Name, to.name, to.h.Name, addr), addr)
					}
				}
			}
		}
	}
	for _, p := range w.pings {
		w.eventually(ctx, p.what, func(context.Context) error {
			if _, last := p.answers(); last == 0 {
				return fmt.Errorf("no answer: %s", p.proc.Tail(5))
			}
			return nil
		})
	}
	for _, h := range w.Hosts {
		w.follows = append(w.follows, w.follow(ctx, h))
	}
	w.mark()
}

func (w *world) ping(from *container, what, addr string) {
	w.t.Helper()
	log := filepath.Join(w.t.TempDir(), "ping.log")
	argv := append(from.h.EnterCommand(), from.command("ping", "-n", "-D", "-O", "-i", "0.1", "-w", "1200", addr)...)
	p := &pinging{what: what, proc: testenv.NewProcess(log, argv...)}
	if err := p.proc.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.proc.Kill)
	w.pings = append(w.pings, p)
}

// answers are the pings that were answered, and the last one that was sent as far as ping says.
func (p *pinging) answers() (answered map[int]bool, last int) {
	text, err := os.ReadFile(p.proc.Log())
	if err != nil {
		return nil, 0
	}
	answered = map[int]bool{}
	for line := range strings.Lines(string(text)) {
		_, tail, is := strings.Cut(line, "icmp_seq=")
		if !is || !strings.HasSuffix(line, "\n") { // ping is writing it
			continue
		}
		seq, err := strconv.Atoi(strings.Fields(tail)[0])
		if err != nil {
			continue
		}
		last = max(last, seq)
		if strings.Contains(line, "bytes from") {
			answered[seq] = true
		}
	}
	return answered, last
}

// lost waits for the answers that are under way and tells which pings since the last mark have none, and how many there were.
func (p *pinging) lost(ctx context.Context, last int) (lost []int) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	_ = testenv.Poll(ctx, 50*time.Millisecond, func() bool { // what has no answer then is lost
		answered, _ := p.answers()
		lost = nil
		for seq := p.from + 1; seq <= last; seq++ {
			if !answered[seq] {
				lost = append(lost, seq)
			}
		}
		return len(lost) == 0
	})
	return lost
}

// follow is what is seen of a host's data plane at each moment.
type follow struct {
	h       *lab.Host
	flows   *ovs.Follower
	ports   []string          // of the standing containers, and of their networks' tunnels
	first   map[ovs.Flow]bool // those that were there at the first markAll
	entries *testenv.Process  // bridge monitor fdb
	from    int               // bytes of its output that have been looked at
}

func (w *world) follow(ctx context.Context, h *lab.Host) *follow {
	w.t.Helper()
	f := &follow{h: h, flows: ovs.FollowIn(w.t, h.EnterCommand(), "socketplane0"),
		entries: testenv.NewProcess(filepath.Join(w.t.TempDir(), "fdb.log"), append(h.EnterCommand(), "bridge", "monitor", "fdb")...)}
	ports, err := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "list-ports", "socketplane0")
	if err != nil {
		w.t.Fatal(err)
	}
	f.ports = strings.Fields(ports)
	if err := f.entries.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.entries.Kill)
	// It says nothing when it listens: an entry of ours shows it.
	const mark = "02:00:5e:00:53:01"
	w.eventually(ctx, "bridge monitor of "+h.Name, func(ctx context.Context) error {
		for _, verb := range []string{"append", "del"} {
			if _, err := h.Exec(ctx, "bridge", "fdb", verb, mark, "dev", "eth0", "self"); err != nil {
				return err
			}
		}
		if !strings.Contains(f.entries.Tail(10), mark) {
			return fmt.Errorf("it does not listen yet")
		}
		return nil
	})
	return f
}

// needed says whether a flow is one of a standing container.
func (w *world) needed(flow ovs.Flow) bool {
	text := flow.String()
	return slices.ContainsFunc(w.standing, func(c *container) bool {
		for _, a := range c.on {
			if strings.Contains(text, a.MacAddress) {
				return true
			}
		}
		return false
	})
}

// mark begins a part of the test: what unbroken says is about the time from here on.
func (w *world) mark() {
	w.t.Helper()
	for _, f := range w.follows {
		f.flows.Keep(w.needed)
		f.from = len(f.said(w))
	}
}

// concerns says whether a gap is one of a standing container: ports of others come and go.
func (f *follow) concerns(gap string) bool {
	_, port, is := strings.Cut(gap, " port ")
	return !is || slices.ContainsFunc(f.ports, func(name string) bool { return strings.Contains(port, "("+name+")") })
}

// markAll is mark for a part in which nothing comes or goes: all flows are needed that the hosts' switches had when this was called first. Those that the
// other release has besides come and go with it.
func (w *world) markAll() {
	w.t.Helper()
	for _, f := range w.follows {
		first := f.first == nil
		if first {
			f.first = map[ovs.Flow]bool{}
		}
		f.flows.Keep(func(flow ovs.Flow) bool {
			f.first[flow] = f.first[flow] || first
			return f.first[flow]
		})
	}
}

// said is what the kernel has told of forwarding entries.
func (f *follow) said(w *world) string {
	w.t.Helper()
	text, err := os.ReadFile(f.entries.Log())
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// unbroken fails the test if since the last mark a ping was lost, or a flow, a port or a forwarding entry of the standing containers was missing for a moment. It marks
// the end of that part.
func (w *world) unbroken(ctx context.Context, part string) {
	w.t.Helper()
	sent := 0
	lasts := make([]int, len(w.pings))
	for i, p := range w.pings {
		_, lasts[i] = p.answers()
	}
	for i, p := range w.pings {
		if lost := p.lost(ctx, lasts[i]); len(lost) > 0 {
			w.t.Errorf("%s: %s: of %d pings these had no answer: %d", part, p.what, lasts[i]-p.from, lost)
		}
		if !p.proc.Running() || lasts[i] == p.from {
			w.t.Errorf("%s: %s: ping has stopped: %s", part, p.what, p.proc.Tail(3))
		}
		sent += lasts[i] - p.from
		p.from = lasts[i]
	}
	for _, f := range w.follows {
		for _, gap := range f.flows.Gaps() {
			if f.concerns(gap) {
				w.t.Errorf("%s: %s: %s", part, f.h.Name, gap)
			}
		}
		for line := range strings.Lines(f.said(w)[f.from:]) {
			if strings.HasPrefix(line, "Deleted ") && strings.Contains(line, " dst ") && w.needed(ovs.Flow{Match: line}) {
				w.t.Errorf("%s: %s: a tunnel's forwarding entry was missing: %s", part, f.h.Name, line)
			}
		}
	}
	w.t.Logf("%s: %d pings, %d, %d and %d flows needed", part, sent, w.follows[0].flows.Needed(), w.follows[1].flows.Needed(), w.follows[2].flows.Needed())
	w.mark()
}
