package ovsctl_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/ovsctl"
)

// cost counts what a call takes.
func cost(t *testing.T, s *ovsctl.Switch, what string, call func() error) ovsctl.Counts {
	t.Helper()
	before := s.Counts()
	if err := call(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	after := s.Counts()
	return ovsctl.Counts{Transactions: after.Transactions - before.Transactions, Operations: after.Operations - before.Operations,
		Rows: after.Rows - before.Rows}
}

// TestPortCostsItself: adding, mending, awaiting and removing a port costs the same on a bridge with few ports as on one with hundreds.
func TestPortCostsItself(t *testing.T) {
	_, s := start(t)
	var costs []map[string]ovsctl.Counts
	many := func(n int) []ovsctl.Port {
		var ports []ovsctl.Port
		for i := range n {
			ports = append(ports, tunnel(i))
		}
		return ports
	}
	for _, n := range []int{10, 500} {
		eventually(t, "ports are there", func() error { _, err := s.SyncPorts(t.Context(), many(n)); return err })
		eventually(t, "the switch has them", func() error { _, err := s.WaitPort(t.Context(), tunnel(n-1).Name); return err })
		quiet(t, s)
		one := tap("one", 2000)
		got := map[string]ovsctl.Counts{
			"add":  cost(t, s, "add", func() error { return s.EnsurePort(t.Context(), one) }),
			"wait": cost(t, s, "wait", func() error { _, err := s.WaitPort(t.Context(), "one"); return err }),
			"again": cost(t, s, "again", func() error {
				if changes, err := s.EnsurePorts(t.Context(), one); err != nil || changes != (ovsctl.Changes{}) {
					return fmt.Errorf("changed %+v, %w", changes, err)
				}
				return nil
			}),
			"mend": cost(t, s, "mend", func() error { one.OFPort = 2001; return s.EnsurePort(t.Context(), one) }),
			"look": cost(t, s, "look", func() error {
				if p, ok := s.Port("one"); !ok || p.OFPort != 2001 {
					return fmt.Errorf("port is %+v", p)
				}
				return nil
			}),
			"two":    cost(t, s, "two", func() error { _, err := s.EnsurePorts(t.Context(), tap("two", 2), tap("three", 3)); return err }),
			"remove": cost(t, s, "remove", func() error { return s.RemovePorts(t.Context(), "one", "two", "three", "nowhere") }),
		}
		for _, name := range []string{"one", "two", "three"} {
			if _, ok := s.Port(name); ok {
				t.Errorf("%s is still there", name)
			}
		}
		if len(s.Ports()) != n {
			t.Errorf("%d ports of %d", len(s.Ports()), n)
		}
		costs = append(costs, got)
	}
	for what, few := range costs[0] {
		if many := costs[1][what]; few != many {
			t.Errorf("%s: %+v with 10 ports, %+v with 500", what, few, many)
		}
		if few.Transactions > 1 || few.Rows > 10 {
			t.Errorf("%s costs %+v", what, few)
		}
	}
	t.Logf("%+v", costs[1])
}

// tunnel is a port that needs no device.
func tunnel(i int) ovsctl.Port {
	return ovsctl.Port{Name: fmt.Sprintf("t%d", i), OFPort: uint32(i + 1), Type: "vxlan",
		Options: map[string]string{"remote_ip": fmt.Sprintf("192.0.2.%d", i%250+1), "key": fmt.Sprint(i)}}
}

// gathered takes news until it has told all that is wanted.
func gathered(t *testing.T, told <-chan struct{}, take func() ovsctl.News, enough func(ovsctl.News) bool) (all ovsctl.News) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !enough(all) {
		select {
		case <-told:
		case <-deadline:
			t.Fatalf("told only %+v", all)
		}
		n := take()
		all.All = all.All || n.All
		all.Ports = slices.Compact(slices.Sorted(slices.Values(append(all.Ports, n.Ports...))))
		all.Bridges = slices.Compact(slices.Sorted(slices.Values(append(all.Bridges, n.Bridges...))))
	}
	return all
}

func TestNewsNamesWhatChanged(t *testing.T) {
	sw, s := start(t)
	told, take := s.News()
	if first := gathered(t, told, take, func(n ovsctl.News) bool { return n.All }); !first.All {
		t.Errorf("first %+v", first)
	}
	quiet(t, s) // the bridge is new: ovs-vswitchd is looked for
	take()
	has := func(list []string, names ...string) bool {
		for _, n := range names {
			if !slices.Contains(list, n) {
				return false
			}
		}
		return true
	}
	// Ours.
	if _, err := s.EnsurePorts(t.Context(), tap("p1", 1), tap("p2", 2)); err != nil {
		t.Fatal(err)
	}
	n := gathered(t, told, take, func(n ovsctl.News) bool { return has(n.Ports, "p1", "p2") && has(n.Bridges, bridge) })
	if n.All || len(n.Ports) != 2 || len(n.Bridges) != 1 {
		t.Errorf("two ports of ours: %+v", n)
	}
	if _, err := s.WaitPort(t.Context(), "p2"); err != nil {
		t.Fatal(err)
	}
	quiet(t, s)
	take()
	// Another's change of one of ours, and of the bridge.
	sw.Vsctl("set", "Interface", "p1", "ofport_request=7")
	n = gathered(t, told, take, func(n ovsctl.News) bool { return has(n.Ports, "p1") })
	if n.All || !slices.Equal(n.Ports, []string{"p1"}) {
		t.Errorf("a port was changed: %+v", n)
	}
	sw.Vsctl("set", "Bridge", bridge, "fail_mode=standalone")
	gathered(t, told, take, func(n ovsctl.News) bool { return has(n.Bridges, bridge) })
	// Somebody's own.
	sw.AddBridge("br-theirs")
	sw.Vsctl("add-port", bridge, "theirs", "--", "set", "Interface", "theirs", "type=internal")
	gathered(t, told, take, func(n ovsctl.News) bool { return has(n.Bridges, "br-theirs", bridge) && has(n.Ports, "theirs") })
	sw.Vsctl("del-port", "p1")
	n = gathered(t, told, take, func(n ovsctl.News) bool { return has(n.Ports, "p1") && has(n.Bridges, bridge) })
	if n.All {
		t.Errorf("a port was removed: %+v", n)
	}
	// The database goes and comes.
	sw.StopDB()
	gathered(t, told, take, func(n ovsctl.News) bool { return n.All })
	sw.StartDB()
	gathered(t, told, take, func(n ovsctl.News) bool { return n.All })
	// ovs-vswitchd is another one.
	eventually(t, "ready", s.Ready)
	quiet(t, s)
	take()
	sw.StopVswitchd()
	sw.StartVswitchd()
	gathered(t, told, take, func(n ovsctl.News) bool { return n.All })
}

// A burst is told together: a hundred ports of one transaction are many rows, and few signals.
func TestNewsGathersBursts(t *testing.T) {
	_, s := start(t)
	told, take := s.News()
	gathered(t, told, take, func(n ovsctl.News) bool { return n.All })
	var want []ovsctl.Port
	for i := range 100 {
		want = append(want, tunnel(i))
	}
	before := s.Counts().Events
	if _, err := s.EnsurePorts(t.Context(), want...); err != nil {
		t.Fatal(err)
	}
	signals, names := 0, map[string]bool{}
	for len(names) < len(want) {
		<-told
		signals++
		for _, p := range take().Ports {
			names[p] = true
		}
	}
	if rows := s.Counts().Events - before; signals > int(rows)/4 {
		t.Errorf("%d signals for %d rows", signals, rows)
	}
}
