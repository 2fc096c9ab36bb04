package addresses

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// kind sorts errors into those that may come and others.
func kind(err error) string {
	for name, target := range map[string]error{
		"exhausted": ipamdriver.ErrExhausted, "taken": store.ErrTaken, "unavailable": store.ErrUnavailable, "timeout": context.DeadlineExceeded,
	} {
		if errors.Is(err, target) {
			return name
		}
	}
	return "other"
}

var errDead = errors.New("the host's agent is dead")

// machine is a host whose agent is a process that can be killed, and the containers on it.
type machine struct {
	t   *testing.T
	id  string
	cfg hostConfig

	// calls is held by callers from their call until its outcome is noted.
	calls sync.RWMutex

	mu         sync.Mutex
	agent      *agent
	containers []container
	down       bool // between a kill and the next start
}

type container struct{ pool, addr, mac string }

func (c container) holder(m *machine) string { return m.id + "/" + c.mac }

// agent is one process.
type agent struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	dead chan struct{}

	mu      sync.Mutex
	n       int
	waiting map[int]chan answer
}

// start starts the machine's agent; with the containers' addresses if it is to find them.
func (m *machine) start(withContainers bool) {
	m.t.Helper()
	cfg := m.cfg
	if withContainers {
		for _, c := range m.containers {
			cfg.Containers = append(cfg.Containers, ipamdriver.Held{
				Pool: netip.MustParsePrefix(c.pool), Addr: netip.MustParseAddr(c.addr), MAC: c.mac})
		}
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hostEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	a := &agent{cmd: cmd, in: in, dead: make(chan struct{}), waiting: map[int]chan answer{}}
	go a.read(out)
	m.agent, m.down = a, false
}

func (a *agent) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var got answer
		if json.Unmarshal(lines.Bytes(), &got) != nil {
			continue // cut off by a kill
		}
		a.mu.Lock()
		ch := a.waiting[got.N]
		delete(a.waiting, got.N)
		a.mu.Unlock()
		if ch != nil {
			ch <- got
		}
	}
	_ = a.cmd.Wait()
	close(a.dead)
}

// call asks the agent and waits for its answer, or its death.
func (m *machine) call(c call) (answer, error) {
	m.mu.Lock()
	a, down := m.agent, m.down
	m.mu.Unlock()
	if down {
		return answer{}, errDead
	}
	ch := make(chan answer, 1)
	a.mu.Lock()
	a.n++
	c.N = a.n
	a.waiting[c.N] = ch
	text, _ := json.Marshal(c) // plain values
	_, err := a.in.Write(append(text, '\n'))
	a.mu.Unlock()
	if err != nil {
		return answer{}, errDead
	}
	select {
	case got := <-ch:
		return got, nil
	case <-a.dead:
		// It may have answered before it died.
		select {
		case got := <-ch:
			return got, nil
		default:
			return answer{}, errDead
		}
	}
}

// ask is a call that must succeed. These hosts have little patience with Consul, less than a busy machine takes now and then.
func (m *machine) ask(c call) answer {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	var a answer
	var err error
	if testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		a, err = m.call(c)
		return err != nil || a.Kind != "unavailable" && a.Kind != "timeout"
	}) != nil || err != nil || a.Error != "" {
		m.t.Fatalf("%s: %s: %v %s", m.id, c.Op, err, a.Error)
	}
	return a
}

func (m *machine) kill() {
	m.mu.Lock()
	m.down = true
	a := m.agent
	m.mu.Unlock()
	_ = a.cmd.Process.Kill()
	<-a.dead
	_ = a.in.Close()
}

// fleet is the machines, what they use, and what is known of their containers.
type fleet struct {
	*testing.T
	machines []*machine
	history  *history
	pools    []string
	macs     int
	macsMu   sync.Mutex
}

func (f *fleet) mac() string {
	f.macsMu.Lock()
	defer f.macsMu.Unlock()
	f.macs++
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", f.macs>>24, f.macs>>16&255, f.macs>>8&255, f.macs&255)
}

// request starts a container; it tells what kind of error came.
func (f *fleet) request(m *machine, pool, static string) string {
	c := container{pool: pool, mac: f.mac()}
	m.calls.RLock()
	defer m.calls.RUnlock()
	a, err := m.call(call{Op: "request", Pool: pool, Addr: static, ID: c.mac})
	if err != nil {
		return "dead"
	}
	if a.Error != "" {
		if a.Kind == "other" {
			f.Errorf("%s: %s", m.id, a.Error)
		}
		return a.Kind
	}
	c.addr = a.Addr
	m.mu.Lock()
	defer m.mu.Unlock()
	if static != "" && c.addr != static {
		f.Errorf("%s asked for %s and got %s", m.id, static, c.addr)
	}
	f.history.begin(c.addr, c.holder(m))
	m.containers = append(m.containers, c)
	return "ok"
}

// release ends a container, if the machine has one.
func (f *fleet) release(m *machine, rng *rand.Rand) {
	m.mu.Lock()
	if len(m.containers) == 0 {
		m.mu.Unlock()
		return
	}
	i := rng.IntN(len(m.containers))
	c := m.containers[i]
	m.containers = slices.Delete(m.containers, i, i+1)
	f.history.end(c.addr, c.holder(m))
	m.mu.Unlock()
	// If nobody answers, the address stays handed out to nobody until tidy.
	_, _ = m.call(call{Op: "release", Pool: c.pool, Addr: c.addr})
}

// crash kills a machine's agent and starts it again. With lost the journal is gone; with off the whole machine was, and its containers.
func (f *fleet) crash(m *machine, lost, off bool) {
	m.kill()
	m.calls.Lock() // what was answered before the end is noted
	defer m.calls.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if off {
		for _, c := range m.containers {
			f.history.end(c.addr, c.holder(m))
		}
		m.containers = nil
	}
	if lost || off {
		// An agent that died a moment after its start has made none.
		if err := os.Remove(filepath.Join(m.cfg.Dir, "journal")); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.Error(err)
		}
	}
	m.start(true)
}

// tidy releases what is handed out to nobody: requests and releases that a crash cut off. An agent does that by Docker's lists.
func (f *fleet) tidy(m *machine) (map[string]string, bool) {
	a := m.ask(call{Op: "list"})
	m.mu.Lock()
	known := map[string]bool{}
	for _, c := range m.containers {
		known[c.addr] = true
	}
	m.mu.Unlock()
	for addr, state := range a.Journal {
		if state != "" || known[addr] {
			continue
		}
		for _, pool := range f.pools {
			if netip.MustParsePrefix(pool).Contains(netip.MustParseAddr(addr)) {
				_, _ = m.call(call{Op: "release", Pool: pool, Addr: addr})
			}
		}
	}
	return a.Journal, a.Pending
}

// eventually polls.
func (f *fleet) eventually(limit time.Duration, check func() []string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		wrong := check()
		if len(wrong) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			f.Fatalf("not settled within %v: %d problems, such as %q", limit, len(wrong), wrong[:min(10, len(wrong))])
		case <-tick.C:
		}
	}
}
