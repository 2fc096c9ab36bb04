package openflow

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// follower holds the flows of a switch as a monitor tells of them.
type follower struct {
	mu     sync.Mutex
	flows  map[string]Flow
	kinds  []EventKind
	own    []uint32
	wake   chan struct{}
	gate   chan struct{} // closed: events are taken
	wrongs []string
}

func newFollower() *follower {
	f := &follower{flows: map[string]Flow{}, wake: make(chan struct{}, 1), gate: make(chan struct{})}
	close(f.gate)
	return f
}

func (f *follower) handle(events []FlowEvent) {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	<-gate
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		f.kinds = append(f.kinds, e.Kind)
		key := e.Flow.Key()
		switch e.Kind {
		case FlowInitial, FlowAdded, FlowModified:
			f.flows[key] = e.Flow
		case FlowDeleted:
			if _, ok := f.flows[key]; !ok {
				f.wrongs = append(f.wrongs, "deleted, not known: "+key)
			}
			delete(f.flows, key)
		case FlowOwn:
			f.own = append(f.own, e.XID)
		}
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// until waits for what the events have told.
func (f *follower) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for {
		f.mu.Lock()
		done := ok()
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-f.wake:
		case <-deadline(t).Done():
			t.Fatalf("not told: %s; told: %v", what, f.kinds)
		}
	}
}

func (f *follower) texts() []string {
	var out []string
	for _, flow := range f.flows {
		out = append(out, flow.String())
	}
	slices.Sort(out)
	return out
}

func monitor(t *testing.T, c *Conn, o MonitorOptions) *follower {
	t.Helper()
	f := newFollower()
	if err := c.Monitor(deadline(t), o, f.handle); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMonitorTellsWhatOthersDo(t *testing.T) {
	sw, c := startSwitch(t)
	first := Flow{Table: 1, Priority: 1, Cookie: 7, Match: match(U32(Reg0, 1)), Actions: []Action{Output{1}}}
	apply(t, c, Change{Add: append(caseFlows(), first)})
	f := monitor(t, c, MonitorOptions{Initial: true})
	if got, want := f.texts(), texts(dump(t, c, 0, 0)); !slices.Equal(got, want) {
		t.Fatalf("at first\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Every step is somebody else's.
	last := func(k EventKind) func() bool {
		return func() bool { return len(f.kinds) > 0 && f.kinds[len(f.kinds)-1] == k }
	}
	sw.Ofctl("add-flow", bridge, "table=2,priority=5,reg0=3,actions=output:2")
	f.until(t, "added", last(FlowAdded))
	sw.Ofctl("--strict", "mod-flows", bridge, "table=1,priority=1,reg0=1,actions=output:9")
	f.until(t, "modified", last(FlowModified))
	sw.Ofctl("del-flows", bridge, "table=2")
	f.until(t, "deleted", last(FlowDeleted))
	sw.Ofctl("add-flow", bridge, "table=1,priority=1,cookie=9,reg0=1,actions=output:3")
	f.until(t, "replaced", last(FlowAdded))
	f.until(t, "all", func() bool { return slices.Equal(f.texts(), texts(dump(t, c, 0, 0))) })
	if len(f.wrongs) > 0 {
		t.Error(f.wrongs)
	}
	if err := c.Monitor(deadline(t), MonitorOptions{}, f.handle); !errors.Is(err, ErrInvalid) {
		t.Errorf("a second monitor: %v", err)
	}
}

// What the connection itself changes is told shortly, in time, and apart from what others change.
func TestMonitorAbbreviatesOwnChanges(t *testing.T) {
	sw, c := startSwitch(t)
	f := monitor(t, c, MonitorOptions{})
	mods := manyFlows(100, 1)
	apply(t, c, Change{Add: mods})
	f.until(t, "own", func() bool { return len(f.own) > 0 })
	sw.Ofctl("add-flow", bridge, "table=2,priority=5,reg0=3,actions=output:2")
	f.until(t, "added", func() bool { return slices.Contains(f.kinds, FlowAdded) })
	if len(f.flows) != 1 {
		t.Errorf("told %v", f.texts())
	}
	t.Logf("a bundle of %d flow-mods is told by %d events", len(mods), len(f.own))

	apply(t, connect(t, sw), Change{Add: manyFlows(10, 2)}) // replaces ten
	f.until(t, "another connection's", func() bool { return len(f.flows) == 11 })
}

// A reader that is too slow is told in the end what the switch holds.
func TestMonitorPauses(t *testing.T) {
	sw, c := startSwitch(t)
	keep, drop := manyFlows(20_000, 1), []Flow{}
	for i := range keep {
		if i%2 == 0 {
			drop = append(drop, keep[i])
		}
	}
	apply(t, c, Change{Add: keep})
	watch := connect(t, sw)
	f := monitor(t, watch, MonitorOptions{Initial: true})
	if len(f.flows) != len(keep) {
		t.Fatalf("%d flows at first", len(f.flows))
	}
	f.mu.Lock()
	f.gate = make(chan struct{})
	f.mu.Unlock()
	more := manyFlows(30_000, 3)
	for i := range more {
		more[i].Table = 4
	}
	apply(t, c, Change{Delete: drop})
	apply(t, c, Change{Add: more})
	f.mu.Lock()
	close(f.gate)
	f.mu.Unlock()
	f.until(t, "paused", func() bool { return slices.Contains(f.kinds, MonitorPaused) })
	f.until(t, "all", func() bool {
		return f.kinds[len(f.kinds)-1] == MonitorResumed || len(f.flows) == len(keep)-len(drop)+len(more)
	})
	f.until(t, "the switch's flows", func() bool { return len(f.flows) == len(keep)-len(drop)+len(more) })
	if got, want := f.texts(), texts(dump(t, c, 0, 0)); !slices.Equal(got, want) {
		t.Errorf("told %d flows, there are %d", len(got), len(want))
	}
	if len(f.wrongs) > 0 {
		t.Error(f.wrongs[0])
	}
}

func TestCounts(t *testing.T) {
	sw, c := startSwitch(t)
	watch := connect(t, sw)
	f := monitor(t, watch, MonitorOptions{})
	before := Totals()
	apply(t, c, Change{Add: manyFlows(30, 1)})
	dump(t, c, 0, 0)
	dump(t, c, 5<<48, ownerBits)
	f.until(t, "added", func() bool { return len(f.flows) == 30 })
	got := c.Counts()
	if got.FlowMods != 30 || got.Bundles != 1 || got.Dumps != 2 || got.DumpedFlows != 30 || got.Sent < 30*80 || got.Received < 30*80 {
		t.Errorf("%+v", got)
	}
	if n := watch.Counts().Events; n != 30 {
		t.Errorf("%d events", n)
	}
	after := Totals()
	if after.FlowMods-before.FlowMods != 30 || after.Events-before.Events != 30 || after.Sent-before.Sent < got.Sent {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

const ownerBits = 0xffff << 48

// A plane isolates what is refused: it is told which flows, of each way in which that is found out.
func TestRefusedFlows(t *testing.T) {
	sw, c := startSwitch(t)
	good := manyFlows(5, 1)
	noSuchTable := Flow{Table: 255, Priority: 2}
	back := Flow{Table: 5, Priority: 3, Goto: 4}
	big := Flow{Table: 1, Priority: 4}
	for i := range 5000 {
		big.Actions = append(big.Actions, Output{uint32(i + 1)})
	}
	insane := Flow{Table: 1, Priority: 5, Match: match(Addr(IPv4Dst, ip4))}
	for _, tc := range []struct {
		name string
		bad  []Flow
		want []Flow
	}{
		{"can't be read", []Flow{back, insane}, []Flow{back, insane}},
		{"no such table", []Flow{noSuchTable}, []Flow{noSuchTable}},
		{"can't be sent", []Flow{big}, []Flow{big}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := c.Apply(deadline(t), Change{Add: slices.Concat(good, tc.bad, good)})
			if got, want := texts(Refused(err)), texts(tc.want); !slices.Equal(got, want) {
				t.Errorf("refused %v\nwant %v\nof %v", got, want, err)
			}
			if n := len(dump(t, c, 0, 0)); n != 0 {
				t.Errorf("%d flows", n)
			}
			err = Fill(deadline(t), sw.Mgmt(bridge), append(manyFlows(3000, 9), tc.bad...))
			if got, want := texts(Refused(fmt.Errorf("wrapped: %w", err))), texts(tc.want); !slices.Equal(got, want) {
				t.Errorf("refused by Fill %.300v\nwant %.300v", got, want)
			}
			if err := c.DeleteCookie(deadline(t), 0, 1<<63); err != nil {
				t.Fatal(err)
			}
			if len(tc.want) > 0 {
				apply(t, c, Change{Add: good}) // without the bad one the rest goes
				if err := c.DeleteCookie(deadline(t), 0, 1<<63); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if got := Refused(errors.New("another")); got != nil {
		t.Errorf("got %v", got)
	}
	if Refused(nil) != nil {
		t.Error("nothing was refused")
	}
}

// FuzzMonitor feeds flow events; the seeds are a real switch's, see TestCaptureEvents.
func FuzzMonitor(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "events", "*.bin"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range seeds {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		events, _, _ := decodeMonitorReply(b)
		for _, e := range events {
			if e.Kind.String() == "" {
				t.Error("a kind without a name")
			}
			checkReencodes(t, e.Flow)
		}
	})
}

// TestCaptureEvents has a real switch tell every kind of event; with -update they become the seeds of FuzzMonitor.
func TestCaptureEvents(t *testing.T) {
	sw, c := startSwitch(t)
	apply(t, c, Change{Add: caseFlows()})
	sw.Ofctl("add-flow", bridge, "priority=4,cookie=4,ct_state=+trk,tcp,tcp_flags=+syn,actions=ct(commit,zone=1),write_metadata:1")
	request := monitorRequest(lastXID, MonitorOptions{Initial: true})
	got := capture(t, sw.Mgmt(bridge), [][]byte{request})
	var kinds []EventKind
	body := []byte(nil)
	for r := strings.NewReader(string(got)); r.Len() > 0; {
		m, err := readMessage(r)
		if err != nil {
			t.Fatal(err)
		}
		if isMonitorReply(m) {
			events, _, err := decodeMonitorReply(m.body)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				kinds = append(kinds, e.Kind)
				checkReencodes(t, e.Flow)
			}
			body = m.body
		}
	}
	if len(kinds) != len(flowCases)+1 || kinds[0] != FlowInitial {
		t.Errorf("told %v", kinds)
	}
	if *update {
		short := []byte{0, 16, 0, 0, 0, 0, 0, 0, 0, 8, 0, 4, 0, 0, 0, 9, 0, 8, 0, 5, 0, 0, 0, 0, 0, 8, 0, 6, 0, 0, 0, 0}
		for name, b := range map[string][]byte{"initial": body, "short": short} {
			if err := os.WriteFile(filepath.Join("testdata", "events", name+".bin"), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
