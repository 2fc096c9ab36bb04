package cluster_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idleSpan is how long BenchmarkIdle looks at a cluster that does nothing.
const idleSpan = 30 * time.Second

// BenchmarkIdle tells what three hosts cost that do nothing, the mean of all: the share of one processor and the memory of the program that
// has the cluster's part of the agent, and of Consul, and packets per second in both directions.
func BenchmarkIdle(b *testing.B) {
	s, hosts := three(b)
	fourth := s.host()
	fourth.start()
	s.await("a client", patience, func() bool { return formed(3, s.hosts...) })
	for range b.N {
		agents, consuls := make([]usage, len(s.hosts)), make([]usage, len(s.hosts))
		packets := make([]int, len(s.hosts))
		read := func() {
			for i, h := range s.hosts {
				agents[i].read(b, h.agentPid())
				consuls[i].read(b, h.consulPid())
				packets[i] = h.packets() - packets[i]
			}
		}
		read()
		<-time.After(idleSpan)
		read()
		report := func(name string, from, to int) {
			n := float64(to - from)
			var agent, consul usage
			total := 0
			for i := from; i < to; i++ {
				agent.add(agents[i])
				consul.add(consuls[i])
				total += packets[i]
			}
			b.ReportMetric(100*agent.cpu.Seconds()/idleSpan.Seconds()/n, name+"-agent-%")
			b.ReportMetric(100*consul.cpu.Seconds()/idleSpan.Seconds()/n, name+"-consul-%")
			b.ReportMetric(float64(agent.memory)/n/(1<<20), name+"-agent-MiB")
			b.ReportMetric(float64(consul.memory)/n/(1<<20), name+"-consul-MiB")
			b.ReportMetric(float64(total)/idleSpan.Seconds()/n, name+"-packets/s")
		}
		report("server", 0, len(hosts))
		report("client", len(hosts), len(s.hosts))
	}
	b.ReportMetric(0, "ns/op")
}

// usage is what a process has used between two looks, and its memory at the second.
type usage struct {
	cpu    time.Duration
	memory int
}

func (u *usage) add(v usage) { u.cpu, u.memory = u.cpu+v.cpu, u.memory+v.memory }

func (u *usage) read(b *testing.B, pid int) {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	const tick = 10 * time.Millisecond
	u.cpu = time.Duration(number(b, f[11])+number(b, f[12]))*tick - u.cpu
	u.memory = number(b, f[21]) * os.Getpagesize()
}

func number(b *testing.B, text string) int {
	b.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func (h *host) agentPid() int { return h.proc.Pid() }

// consulPid is that of the host's Consul, which runs.
func (h *host) consulPid() int {
	pid := h.findConsul()
	if pid == 0 {
		h.s.t.Fatal("no Consul of " + h.cfg.Name)
	}
	return pid
}

// findConsul finds the host's Consul by its configuration; 0 if there is none.
func (h *host) findConsul() int {
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.s.t.Fatal(err)
	}
	for _, path := range dirs {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "-config-file="+filepath.Join(h.cfg.Dir, "consul")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				h.s.t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// packets counts what its interface has sent and received.
func (h *host) packets() int {
	out := ip(h.s.t, "netns", "exec", h.space, "cat", "/sys/class/net/eth0/statistics/rx_packets", "/sys/class/net/eth0/statistics/tx_packets")
	sum := 0
	for _, f := range strings.Fields(out) {
		n, err := strconv.Atoi(f)
		if err != nil {
			h.s.t.Fatal(err)
		}
		sum += n
	}
	return sum
}
