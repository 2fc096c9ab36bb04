package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

const (
	// figureTime is how long one figure may be taken again and again.
	figureTime = 40 * time.Second
	// pace is the time from one to the next: what follows in the background is not measured with the next one.
	pace = 100 * time.Millisecond
)

// TestMeasure takes the figures of docs/benchmarks.md's section Scale for test/bench. Otherwise it shows with a small plan that each figure can be
// taken, and says nothing of times.
func TestMeasure(t *testing.T) {
	var f Figures
	plan, out := Full(), os.Getenv(OutVar)
	if out == "" {
		plan, out = Plan{Sizes: []int{2}, Each: 2, Updates: 2, Attaches: 2, Rest: time.Second}, filepath.Join(t.TempDir(), "figures.json")
		defer func() {
			for _, s := range f.Sizes {
				for figure, why := range s.Failed {
					t.Errorf("%s: %s", figure, why)
				}
			}
		}()
	}
	if given := os.Getenv(PlanVar); given != "" {
		plan = Plan{}
		if err := json.Unmarshal([]byte(given), &plan); err != nil {
			t.Fatalf("%s: %v", PlanVar, err)
		}
	}
	write := func() {
		text, err := json.MarshalIndent(f, "", "  ")
		if err == nil {
			err = os.WriteFile(out, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, hosts := range plan.Sizes {
		t.Run(fmt.Sprintf("%d hosts", hosts), func(t *testing.T) {
			defer write()
			m := &measured{Plan: plan, t: t, Size: &Size{Hosts: hosts, Each: plan.Each, Failed: map[string]string{}}}
			f.Sizes = append(f.Sizes, m.Size)
			m.run()
		})
	}
	for _, part := range []struct {
		name    string
		n       int
		measure func(t *testing.T, n int)
	}{
		{"crowd", plan.Crowd, func(t *testing.T, n int) { f.Crowd = measureCrowd(t, n) }},
		{"networks", plan.Networks, func(t *testing.T, n int) { f.Networks = measureNetworks(t, n) }},
		{"binds", plan.Binds, func(t *testing.T, n int) { f.Binds = measureBinds(t, n) }},
	} {
		if part.n == 0 {
			continue
		}
		t.Run(part.name, func(t *testing.T) {
			defer write()
			part.measure(t, part.n)
		})
	}
}

// measured is a cluster of a size that is being measured.
type measured struct {
	Plan
	*Size
	t testing.TB
	w *world
}

// run takes all figures. What does not work is noted, and the rest is measured all the same.
func (m *measured) run() {
	began := time.Now()
	step := func(name string, do func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(m.t.Context(), 2*patience)
		defer cancel()
		if err := do(ctx); err != nil {
			m.Failed[name] = err.Error()
			m.t.Logf("%s: %v", name, err)
		}
		m.t.Logf("%4.0f s  %s", time.Since(began).Seconds(), name)
	}
	step("records", func(ctx context.Context) (err error) {
		m.w = &world{host: newHost(m.t)}
		m.w.peers, err = newPeers(ctx, m.w.T, m.w.server.Addr, m.Hosts, m.Size.Each)
		return err
	})
	if len(m.Failed) > 0 {
		return
	}
	step("First", m.first)
	m.w.settle()
	step("Update", m.update)
	m.w.settle()
	step("Attach", m.attach)
	m.w.settle()
	step("Rest", m.atRest)
	step("Endpoints", m.lists)
	step("Restart", m.restart)
}

func (m *measured) first(ctx context.Context) (err error) {
	began := time.Now()
	m.w.start()
	if m.w.net, err = newSegment(ctx, m.w.Docker(), libnetwork.ID("net", 0), wide.String(), local.String()); err != nil {
		return err
	}
	if _, err := m.w.net.join(ctx); err != nil {
		return err
	}
	err = m.complete(ctx)
	m.First = time.Since(began).Seconds()
	return err
}

// complete waits until all endpoints are in the switch.
func (m *measured) complete(ctx context.Context) error {
	got, want := 0, m.w.peers.first
	if err := testenv.Poll(ctx, 200*time.Millisecond, func() bool { got = m.w.flowsTo(macPeer); return got >= want }); err != nil {
		return fmt.Errorf("%d of %d endpoints are in the switch: %w", got, want, err)
	}
	return nil
}

func (m *measured) update(ctx context.Context) error {
	flows := m.w.monitor("!delete,", macUpdate)
	defer flows.end()
	cpu, read := m.w.agentCPU(), m.read()
	err := m.paced(ctx, m.Updates, func(i int) error {
		o := m.w.peers.all[i*7%len(m.w.peers.all)]
		began := time.Now()
		mac, err := o.update(ctx)
		if err != nil {
			return err
		}
		at, err := flows.await(ctx, mac)
		if err == nil {
			m.Update = append(m.Update, milli(at.Sub(began)))
		}
		return err
	})
	m.w.settle()
	if n := float64(len(m.Update)); n > 0 {
		m.UpdateCPU, m.UpdateBytes = milli(m.w.agentCPU()-cpu)/n, float64(m.read()-read)/n
	}
	return err
}

func (m *measured) attach(ctx context.Context) error {
	return m.paced(ctx, m.Attaches, func(int) error {
		took, err := m.w.net.join(ctx)
		if err == nil {
			m.Attach = append(m.Attach, milli(took))
		}
		return err
	})
}

// paced does something again and again, at most n times and as long as a figure may take.
func (m *measured) paced(ctx context.Context, n int, do func(i int) error) error {
	next := time.NewTicker(pace)
	defer next.Stop()
	began := time.Now()
	for i := range n {
		select {
		case <-next.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := do(i); err != nil {
			return err
		}
		if time.Since(began) > figureTime {
			break
		}
	}
	return nil
}

func (m *measured) atRest(ctx context.Context) error {
	cpu, read, began := m.w.agentCPU(), m.read(), time.Now()
	select {
	case <-time.After(m.Rest):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	took := time.Since(began)
	m.RestCPU = 100 * (m.w.agentCPU() - cpu).Seconds() / took.Seconds()
	m.RestBytes = float64(m.read()-read) / took.Seconds()
	m.Memory, m.MemoryMost = m.w.resident()
	return nil
}

// read is how many bytes the agent has read of Consul.
func (m *measured) read() int64 { return m.w.consul.Counts().Sum("", ": bytes") }

func (m *measured) lists(ctx context.Context) error {
	for _, c := range []struct {
		name string
		into *float64
		args []string
	}{
		{"Endpoints", &m.Endpoints, []string{"endpoint", "ls"}},
		{"NetworkList", &m.NetworkList, []string{"network", "ls"}},
		{"Inspect", &m.Inspect, []string{"network", "inspect", m.w.peers.all[0].network}},
	} {
		began := time.Now()
		if _, err := m.w.cli(ctx, c.args...); err != nil {
			m.Failed[c.name] = err.Error()
			m.t.Log(err)
		}
		*c.into = time.Since(began).Seconds()
	}
	return nil
}

// restart kills the agent, lets another host change, and starts the agent again.
func (m *measured) restart(ctx context.Context) error {
	changes, gaps := m.w.monitor("!delete,", macUpdate), m.w.monitor("!add,!modify,", macPeer)
	defer changes.end()
	defer gaps.end()
	m.w.proc.Kill()
	mac, err := m.w.peers.all[len(m.w.peers.all)/2].update(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	m.w.start()
	at, err := changes.await(ctx, mac)
	if err != nil {
		return err
	}
	m.Restart = at.Sub(began).Seconds()
	m.w.settle()
	m.Gaps = gaps.deletions()
	return m.complete(ctx)
}

func milli(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
