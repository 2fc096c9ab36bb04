package ovs_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// monitor is told of every flow of a switch that comes, changes or goes.
type monitor struct {
	conn *openflow.Conn
	mu   sync.Mutex
	have map[string]openflow.Flow
	lost []string
}

// follow begins with the flows that are there. Each of them must stay, or be replaced in one step.
func (h *host) follow() *monitor {
	h.t.Helper()
	conn, err := openflow.Dial(h.ctx(), h.ovs.Mgmt(bridge))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	m := &monitor{conn: conn, have: map[string]openflow.Flow{}}
	if err := conn.Monitor(h.ctx(), openflow.MonitorOptions{Initial: true}, m.told); err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (m *monitor) told(events []openflow.FlowEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		key := e.Flow.Key()
		switch e.Kind {
		case openflow.FlowInitial:
			m.have[key] = e.Flow
		case openflow.FlowDeleted:
			if _, live := m.have[key]; live {
				m.lost = append(m.lost, "deleted: "+e.Flow.String())
			}
		case openflow.FlowAdded, openflow.FlowModified:
			was, live := m.have[key]
			is := e.Flow
			is.Cookie = was.Cookie // generations may differ
			if live && !is.Equal(was) {
				m.lost = append(m.lost, "other actions: "+e.Flow.String())
			}
		}
	}
}

// mustHaveLostNothing demands that all flows were there all the time, with the same actions.
func (m *monitor) mustHaveLostNothing(t testing.TB) {
	t.Helper()
	m.mustHaveLostNothingBut(t, func(string) bool { return false })
}

// mustHaveLostNothingBut leaves out what may be lost.
func (m *monitor) mustHaveLostNothingBut(t testing.TB, may func(text string) bool) {
	t.Helper()
	// Answers come in order: behind this one's nothing is left to be told of what was changed before.
	if _, err := m.conn.Count(t.Context(), 0, 0); err != nil {
		t.Errorf("the monitor ended: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.have) == 0 {
		t.Error("there were no flows: it means nothing")
	}
	m.lost = slices.DeleteFunc(m.lost, may)
	if len(m.lost) > 0 {
		t.Errorf("%d flows of live endpoints were missing for a moment:\n%s", len(m.lost), strings.Join(m.lost[:min(10, len(m.lost))], "\n"))
	}
}

// undisturbed repeats something, and demands that no flow of these hosts is missing at any moment.
func undisturbed(t testing.TB, times int, again func(), hosts ...*host) {
	t.Helper()
	var all []*monitor
	for _, h := range hosts {
		all = append(all, h.follow())
	}
	for range times {
		again()
	}
	for _, m := range all {
		m.mustHaveLostNothing(t)
		_ = m.conn.Close()
	}
}

// TestMonitorSeesALoss: what the tests of restarts rest on does notice a flow that is away for a moment.
func TestMonitorSeesALoss(t *testing.T) {
	h := newHost(t)
	h.start()
	h.attach(network("a", 1), "a-1")
	m := h.follow()
	h.ovs.Ofctl("--strict", "del-flows", bridge, "table=0,priority=100,in_port=1")
	eventually(t, "the loss is seen", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.lost) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	// The agent, too, is told: it does not wait for its next look at everything.
	eventually(t, "it is mended", func() error {
		if !slices.ContainsFunc(h.flows(), func(f string) bool { return strings.Contains(f, "in_port=1 ") }) {
			return fmt.Errorf("the flow is missing: %v", h.flows())
		}
		return nil
	})
}
