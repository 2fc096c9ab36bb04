package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// background is a program that runs beside a test.
type background struct {
	what string
	cmd  *exec.Cmd
	done chan struct{}

	mu       sync.Mutex // guards out
	out, err bytes.Buffer
}

// Write collects the standard output.
func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

// spawn starts a program on the machine. It is ended with the test.
func spawn(t *testing.T, argv ...string) *background {
	t.Helper()
	b := &background{what: strings.Join(argv, " "), cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = b, &b.err
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait() // Its output tells.
		close(b.done)
	}()
	t.Cleanup(func() { b.stop(syscall.SIGKILL) })
	return b
}

// spawn starts a program of the image in the container's namespaces.
func (c *container) spawn(t *testing.T, argv ...string) *background {
	t.Helper()
	return spawn(t, append(append(c.h.EnterCommand(), c.enter()...), argv...)...)
}

// text is the output so far.
func (b *background) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// says waits until the output has the text.
func (b *background) says(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	eventually(ctx, t, patience, func(context.Context) error {
		if !strings.Contains(b.text(), text) {
			return fmt.Errorf("%s does not say %q: %s", b.what, text, b.text())
		}
		return nil
	})
}

// stop sends a signal to the program and, as it may be wrapped, to its child, and waits for the end.
func (b *background) stop(sig syscall.Signal) string {
	pid := b.cmd.Process.Pid
	target := pid
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err == nil {
		if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			target = child
		}
	}
	select {
	case <-b.done:
	default:
		_ = syscall.Kill(target, sig) // It may end by itself in this moment.
		<-b.done
	}
	return b.text()
}

// frame is a line of labprobe sniff.
type frame struct {
	Dst, Src, Type, Payload string
	Bytes                   int
}

// sniffer is a capture in a container.
type sniffer struct {
	*background
	c *container
}

// frames ends the capture and gives what arrived.
func (s *sniffer) frames(t *testing.T) []frame {
	t.Helper()
	var all []frame
	for line := range strings.Lines(s.stop(syscall.SIGKILL)) {
		var f frame
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%s: %v: %s", s.what, err, line)
		}
		if f.Src != "" {
			all = append(all, f)
		}
	}
	return all
}

// count counts frames whose payload contains the hexadecimal text.
func count(all []frame, payload string) int {
	n := 0
	for _, f := range all {
		if strings.Contains(f.Payload, payload) {
			n++
		}
	}
	return n
}

// capture runs tcpdump on the underlay, at the plug of a host.
func (w *world) capture(ctx context.Context, t *testing.T, host, filter string) *background {
	t.Helper()
	und := "--net=/run/netns/" + filepath.Base(w.Dir()) + "-und"
	b := spawn(t, "nsenter", und, "tcpdump", "-i", host, "-n", "-e", "-l", "--immediate-mode", filter)
	eventually(ctx, t, patience, func(context.Context) error {
		// It says so on its standard error, whose buffer is exec's until the end: ask the kernel instead.
		if !hasPacketSocket(b.cmd.Process.Pid) {
			return fmt.Errorf("tcpdump does not listen")
		}
		return nil
	})
	return b
}

// hasPacketSocket says whether the process has bound a packet socket in its network namespace.
func hasPacketSocket(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", pid))
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(text), "\n")[1:] {
		// Columns of packet(7)'s list: the protocol is the fourth, the interface the fifth; 0 is unbound.
		if f := strings.Fields(line); len(f) > 4 && f[3] == "0003" && f[4] != "0" {
			return true
		}
	}
	return false
}

// pinging is a ping with times.
type pinging struct {
	*background
	from *container
	to   string
}

// ping sends a ping every 100 ms until it is stopped.
func (c *container) ping(ctx context.Context, t *testing.T, to string) *pinging {
	t.Helper()
	p := &pinging{c.spawn(t, "ping", "-n", "-D", "-O", "-i", "0.1", "-W", "1", "-w", "300", to), c, to}
	p.says(ctx, t, "bytes from")
	return p
}

// reply is one answer to a ping.
type reply struct {
	at  time.Time
	seq int
}

// end stops the ping and gives the answers, and how many pings had none.
func (p *pinging) end(t *testing.T) (all []reply, lost int) {
	t.Helper()
	text := p.stop(syscall.SIGINT)
	all = replies(t, text)
	if len(all) == 0 {
		t.Fatalf("no answer from %s to %s: %s", p.to, p.from.name, text)
	}
	last := 0
	for _, r := range all {
		last = max(last, r.seq)
	}
	// The last one or two may be under way at the end.
	transmitted := last
	for line := range strings.Lines(text) {
		if n, rest, ok := strings.Cut(line, " packets transmitted"); ok && rest != "" {
			if sent, err := strconv.Atoi(n); err == nil {
				transmitted = max(last, sent-2)
			}
		}
	}
	return all, transmitted - len(all)
}

// replies reads ping's output; a ping that is answered twice counts once, and the last line may be cut.
func replies(t *testing.T, text string) (all []reply) {
	t.Helper()
	seen := map[int]bool{}
	for line := range strings.Lines(text) {
		var at float64
		var rest string
		if _, err := fmt.Sscanf(line, "[%f] %s", &at, &rest); err != nil || !strings.Contains(line, "bytes from") || !strings.HasSuffix(line, "\n") {
			continue
		}
		_, tail, _ := strings.Cut(line, "icmp_seq=")
		seq, err := strconv.Atoi(strings.Fields(tail)[0])
		if err != nil {
			t.Fatalf("ping says %q", line)
		}
		if !seen[seq] {
			seen[seq] = true
			all = append(all, reply{time.UnixMicro(int64(at * 1e6)), seq})
		}
	}
	return all
}

// waitUntil waits for a moment that a scenario prescribes.
func waitUntil(ctx context.Context, t *testing.T, moment time.Time) {
	t.Helper()
	if err := testenv.Poll(ctx, 20*time.Millisecond, func() bool { return time.Now().After(moment) }); err != nil {
		t.Fatal(err)
	}
}

// underlay runs a program in the underlay's namespace, which is beyond all hosts.
func (w *world) underlay(ctx context.Context, argv ...string) (string, error) {
	und := "--net=/run/netns/" + filepath.Base(w.Dir()) + "-und"
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{und}, argv...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s in the underlay: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}
