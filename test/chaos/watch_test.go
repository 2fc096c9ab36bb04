package chaos

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// frameType is that of the frames that tell networks apart; it is for experiments.
const frameType = "0x88b5"

// watch is what is looked at during one round.
type watch struct {
	pings    []*pinging
	sniffers []*sniffing
	senders  []*program
}

// pinging is a ping between two containers, ten times a second.
type pinging struct {
	*program
	from, to *lab.Host
	what     string
}

// sniffing is a capture of what reaches a container of a network.
type sniffing struct {
	*program
	network string
}

// program runs beside the test.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func spawn(argv []string) (*program, error) {
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its output tells
		close(p.done)
	}()
	return p, nil
}

// stop sends a signal to the program, which nsenter wraps, and gives what it has said.
func (p *program) stop(sig syscall.Signal) string {
	pid := p.cmd.Process.Pid
	target := pid
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err == nil {
		if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			target = child
		}
	}
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(target, sig) // it may end by itself in this moment
		<-p.done
	}
	return p.text()
}

// watch starts pings between the containers that are always there, and frames that must not leave their network.
func (w *world) watch(ctx context.Context, n int) (*watch, error) {
	at, err := w.steady(ctx)
	if err != nil {
		return nil, err
	}
	v := &watch{}
	for i, h := range w.Hosts {
		next := w.Hosts[(i+1)%len(w.Hosts)]
		for _, pair := range []struct {
			from, to string
			at       *lab.Host
		}{{"red-a", "red-b", h}, {"red-a", "red-a", next}, {"blue-a", "blue-a", next}} {
			from, to := at[h.Name+"/"+pair.from], at[pair.at.Name+"/"+pair.to]
			p, err := spawn(from.command("ping", "-n", "-O", "-i", "0.1", "-W", "5", "-w", "600", to.on[steadyContainers[pair.to]].IPAddress))
			if err != nil {
				return v, err
			}
			v.pings = append(v.pings, &pinging{p, h, pair.at, h.Name + "/" + pair.from + " to " + pair.at.Name + "/" + pair.to})
		}
		for _, name := range []string{"red-b", "blue-a"} {
			p, err := spawn(at[h.Name+"/"+name].command("labprobe", "sniff", "-i", "eth0", "-type", frameType, "-for", "10m"))
			if err != nil {
				return v, err
			}
			v.sniffers = append(v.sniffers, &sniffing{p, steadyContainers[name]})
		}
	}
	sender := w.Hosts[n%len(w.Hosts)].Name
	for _, name := range []string{"red-a", "blue-a"} {
		p, err := spawn(at[sender+"/"+name].command("labprobe", "send", "-type", frameType, "-payload", hex.EncodeToString([]byte(steadyContainers[name])),
			"-every", "200ms", "-count", "3000"))
		if err != nil {
			return v, err
		}
		v.senders = append(v.senders, p)
	}
	return v, w.waitFor(ctx, lookLimit, func(context.Context) error {
		for _, p := range v.pings {
			if !strings.Contains(p.text(), "bytes from") {
				return fmt.Errorf("no answer from %s: %s", p.what, p.text())
			}
		}
		return nil
	})
}

// steady finds the containers that are always there, by host and name.
func (w *world) steady(ctx context.Context) (map[string]container, error) {
	at := map[string]container{}
	var mu sync.Mutex
	return at, w.each(func(h *lab.Host) error {
		found, err := containers(ctx, h)
		mu.Lock()
		defer mu.Unlock()
		for _, c := range found {
			at[h.Name+"/"+c.name] = c
		}
		for name, network := range steadyContainers {
			if at[h.Name+"/"+name].on[network].IPAddress == "" && err == nil {
				told, _ := h.Docker(ctx, "inspect", "-f", "{{json .State}} {{json .NetworkSettings.Networks}}", name) // as far as it goes
				err = fmt.Errorf("%s/%s has no address on %s: %s", h.Name, name, network, told)
			}
		}
		return err
	})
}

// abort ends what a failed start has left.
func (v *watch) abort() {
	for _, p := range v.pings {
		p.stop(syscall.SIGKILL)
	}
	for _, p := range v.sniffers {
		p.stop(syscall.SIGKILL)
	}
	for _, p := range v.senders {
		p.stop(syscall.SIGKILL)
	}
}

// end stops everything and judges it.
func (v *watch) end(w *world, r round) {
	f, struck := r.fault, w.Hosts[r.host]
	for _, p := range v.senders {
		p.stop(syscall.SIGKILL)
	}
	for _, p := range v.pings {
		sent, lost := pings(p.stop(syscall.SIGINT))
		if lost > w.tolerated(p, r) && !f.touched(p, struck) {
			w.t.Errorf("%s at %s: of %d pings from %s were lost those numbered %v", f.name, struck.Name, sent, p.what, lostOf(p.text()))
		}
	}
	own := 0
	for _, s := range v.sniffers {
		for _, payload := range s.frames() {
			if payload == s.network {
				own++
			} else {
				w.t.Errorf("%s: a frame of %q reached a container of %s", f.name, payload, s.network)
			}
		}
	}
	if own == 0 {
		w.t.Errorf("%s: no frames were seen at all, so nothing is known of those that are not to be", f.name)
	}
}

// tolerated is how many pings an untouched pair may lose. With the tunnel ovs and the datapath in user space, Open vSwitch itself reads the host's
// routes anew whenever a device of the host has changed (route_table_reset in its lib/route-table.c), and what is to leave by a tunnel meanwhile finds
// no way: each container that begins or ends at one of both hosts may then cost one.
func (w *world) tolerated(p *pinging, r round) int {
	most := 1
	for i, h := range w.Hosts {
		if w.tunnel == lab.TunnelOVS && p.from != p.to && (h == p.from || h == p.to) {
			most += len(r.ops[i])
		}
	}
	return most
}

// touched says whether a fault on a host may cost a pair pings.
func (f fault) touched(p *pinging, struck *lab.Host) bool {
	here := p.from == struck || p.to == struck
	return here && (f.touches == switched || f.touches == tunnels && p.from != p.to)
}

// pings counts the pings that were sent and those without an answer; the last may be under way at the end.
func pings(text string) (sent, lost int) {
	seen := sequence(text)
	if len(seen) == 0 {
		return 0, 1 << 20
	}
	return slices.Max(seen), len(lostOf(text))
}

// lostOf are the numbers of the pings that were not answered, before the last that was.
func lostOf(text string) (lost []int) {
	seen := sequence(text)
	if len(seen) == 0 {
		return nil
	}
	for n := 1; n < slices.Max(seen); n++ {
		if !slices.Contains(seen, n) {
			lost = append(lost, n)
		}
	}
	return lost
}

func sequence(text string) (seen []int) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "bytes from") {
			continue
		}
		_, rest, _ := strings.Cut(line, "icmp_seq=")
		if n, err := strconv.Atoi(strings.Fields(rest + " x")[0]); err == nil {
			seen = append(seen, n)
		}
	}
	return seen
}

// frames ends the capture and gives the payloads, without what Ethernet fills short frames up with.
func (s *sniffing) frames() (payloads []string) {
	for line := range strings.Lines(s.stop(syscall.SIGKILL)) {
		var f struct{ Payload string }
		if json.Unmarshal([]byte(line), &f) != nil || f.Payload == "" {
			continue
		}
		if text, err := hex.DecodeString(f.Payload); err == nil {
			payloads = append(payloads, strings.TrimRight(string(text), "\x00"))
		}
	}
	return payloads
}

// answered says whether one ping is.
func answered(ctx context.Context, from container, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return from.exec(ctx, "ping", "-n", "-c", "1", "-W", "1", addr)
}
