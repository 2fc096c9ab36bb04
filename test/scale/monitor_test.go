package scale

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/socketplane/socketplane/test/internal/bare"
)

// monitor is told by the switch of flows to MACs of a prefix, at once. It is safe for concurrent use.
type monitor struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	added   map[string]time.Time
	deleted map[string]int
	news    chan struct{} // closed and made again with each event
	last    string        // line
}

var flowEvent = regexp.MustCompile(`event=(ADDED|DELETED|MODIFIED) .*dl_dst=([0-9a-f:]{17})`)

// monitor begins to be told. what is the ovs-ofctl(8) monitor's own choice of events, such as "!delete,".
func (h *host) monitor(what, prefix string) *monitor {
	h.T.Helper()
	m := &monitor{done: make(chan struct{}), added: map[string]time.Time{}, deleted: map[string]int{}, news: make(chan struct{})}
	m.cmd = exec.Command("ovs-ofctl", "-O", "OpenFlow14", "monitor", "unix:"+h.OVS.Mgmt(bare.Bridge), "watch:!initial,"+what+"dl_dst="+prefix+":00:00:00:00/ff:ff:00:00:00:00")
	m.cmd.Env = append(os.Environ(), "OVS_RUNDIR="+h.Dir) // it makes a control socket there
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.cmd.Stderr = m.cmd.Stdout
		err = m.cmd.Start()
	}
	if err != nil {
		h.T.Fatalf("ovs-ofctl monitor: %v", err)
	}
	begun := make(chan struct{})
	go func() {
		defer close(m.done)
		first := sync.OnceFunc(func() { close(begun) })
		defer first()
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			first()
			m.take(lines.Text())
		}
	}()
	h.T.Cleanup(m.end)
	<-begun // the answer to its request
	return m
}

func (m *monitor) take(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = line
	e := flowEvent.FindStringSubmatch(line)
	if e == nil {
		return
	}
	if e[1] == "DELETED" {
		m.deleted[e[2]]++
	} else if _, known := m.added[e[2]]; !known {
		m.added[e[2]] = time.Now()
	}
	close(m.news)
	m.news = make(chan struct{})
}

// await waits until there is a flow to the MAC, and tells since when.
func (m *monitor) await(ctx context.Context, mac string) (time.Time, error) {
	for {
		m.mu.Lock()
		at, is := m.added[mac]
		news := m.news
		m.mu.Unlock()
		if is {
			return at, nil
		}
		select {
		case <-news:
		case <-m.done:
			return at, fmt.Errorf("ovs-ofctl monitor ended, without a flow to %s: %s", mac, m.said())
		case <-ctx.Done():
			return at, fmt.Errorf("no flow to %s: %w", mac, context.Cause(ctx))
		}
	}
}

// said is the last line that ovs-ofctl printed.
func (m *monitor) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// deletions is how many flows were deleted.
func (m *monitor) deletions() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, count := range m.deleted {
		n += count
	}
	return n
}

// end ends it.
func (m *monitor) end() {
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.done
	_ = m.cmd.Wait() // killed
}
