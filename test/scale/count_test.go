package scale

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
	"github.com/socketplane/socketplane/test/internal/tally"
)

// The clusters that are compared: other hosts, and the endpoints of each.
const (
	fewHosts, fewEach   = 10, 100
	manyHosts, manyEach = 500, 20
	// joinEach is how many endpoints the host has that joins.
	joinEach = 20
)

// What happens to a host.
const (
	peerChange   = "another host's container starts"
	localJoin    = "CreateEndpoint and Join here"
	hostJoins    = "a host joins cluster and network"
	networkMade  = "a network with its first container"
	hostRestarts = "another host's agent restarts"
	minute       = "a minute at rest"
)

// events are all of them, in the order of tables.
var events = []string{peerChange, localJoin, networkMade, hostJoins, hostRestarts, minute}

// costs are what is counted of each, by the names that bounds use.
var costs = []struct {
	name string
	of   func(c tally.Counts) int64
}{
	{"Consul: requests", func(c tally.Counts) int64 {
		return c.Sum("consul: ", "") - c.Sum("consul: ", ": keys") - c.Sum("consul: ", ": bytes")
	}},
	{"Consul: keys read", func(c tally.Counts) int64 { return c.Sum("consul: ", ": keys") }},
	{"Consul: bytes read", func(c tally.Counts) int64 { return c.Sum("consul: ", ": bytes") }},
	{"flow-mods and group-mods", func(c tally.Counts) int64 { return c["openflow: flow-mods"] + c["openflow: group-mods"] }},
	{"flow dumps and counts", func(c tally.Counts) int64 { return c["openflow: flow dumps"] + c["openflow: flow counts"] }},
	{"OVSDB: operations", func(c tally.Counts) int64 { return c["ovsdb: operations"] }},
	{"OVSDB: transactions", func(c tally.Counts) int64 { return c["ovsdb: transactions"] }},
	{"netlink: lists", func(c tally.Counts) int64 { return c["netlink: lists"] }},
	{"netlink: forwarding changes", func(c tally.Counts) int64 { return c["netlink: forwarding changes"] }},
}

// seldom are whole comparisons, which an agent makes by its clock, not because of what happens: one of them may come in between.
const seldom = 1

// clocked are lists of the kernel's tables that an agent makes by its clock, some 25 a minute: as many may come into one change, which is over after 10 s at the latest.
const clocked = 6

// bounds are the most that one of these may cost, in a cluster of any size. A cost without a bound is reported only. Requests to Consul leave
// room for signs of life, of which more fall into a change the slower the machine is.
var bounds = []struct {
	event, cost string
	most        int64
}{
	{peerChange, "Consul: requests", 12},
	{peerChange, "Consul: keys read", 90},
	{peerChange, "Consul: bytes read", 20 << 10},
	{peerChange, "flow-mods and group-mods", 6},
	{peerChange, "flow dumps and counts", seldom},
	{peerChange, "OVSDB: operations", 0},
	{peerChange, "OVSDB: transactions", 0},
	{peerChange, "netlink: lists", clocked},
	{localJoin, "Consul: requests", 14},
	{localJoin, "Consul: keys read", 90},
	{localJoin, "Consul: bytes read", 20 << 10},
	{localJoin, "netlink: lists", clocked},
	{localJoin, "flow-mods and group-mods", 14},
	{localJoin, "flow dumps and counts", seldom},
	{localJoin, "OVSDB: operations", 8},
	{localJoin, "OVSDB: transactions", 1},
	{networkMade, "Consul: requests", 60},
	{networkMade, "Consul: keys read", 80},
	{networkMade, "Consul: bytes read", 16 << 10},
	{networkMade, "flow-mods and group-mods", 16},
	{networkMade, "flow dumps and counts", seldom},
	{networkMade, "OVSDB: operations", 10},
	{networkMade, "OVSDB: transactions", 1}, // the device and the first port
	{hostJoins, "Consul: requests", 20},
	{hostJoins, "Consul: keys read", 90},
	{hostJoins, "Consul: bytes read", 20 << 10},
	{hostJoins, "flow-mods and group-mods", 5 * joinEach},
	{hostJoins, "flow dumps and counts", seldom},
	{hostJoins, "OVSDB: operations", 0},
	{hostJoins, "OVSDB: transactions", 0},
	{hostJoins, "netlink: lists", 4 + clocked},
	{hostRestarts, "Consul: requests", 12},
	{hostRestarts, "Consul: keys read", 30},
	{hostRestarts, "Consul: bytes read", 6 << 10},
	{hostRestarts, "flow-mods and group-mods", 0},
	{hostRestarts, "flow dumps and counts", seldom},
	{hostRestarts, "OVSDB: operations", 0},
	{hostRestarts, "OVSDB: transactions", 0},
	{hostRestarts, "netlink: lists", clocked},
	{minute, "Consul: requests", 60},
	{minute, "Consul: keys read", 60},
	{minute, "Consul: bytes read", 60 << 10}, // 1 KiB/s
	{minute, "flow-mods and group-mods", 0},
	{minute, "OVSDB: operations", 0},
	{minute, "OVSDB: transactions", 0},
	{minute, "netlink: lists", 40},
	{minute, "flow dumps and counts", 4},
	{peerChange, "netlink: forwarding changes", 2},
	{localJoin, "netlink: forwarding changes", 2},
	{hostJoins, "netlink: forwarding changes", 2 * joinEach},
	{hostRestarts, "netlink: forwarding changes", 0},
	{minute, "netlink: forwarding changes", 0},
}

// world is a host in a cluster of a size, with a container on the network that all have.
type world struct {
	*host
	peers *peers
	net   *segment
	// costs are what was counted, by what happened.
	costs map[string]tally.Counts
}

// TestCounts: what one change costs, in requests, keys, bytes, messages and operations, has the same bounds in a small cluster and in a large one.
func TestCounts(t *testing.T) {
	began := time.Now()
	step := func(what string) { t.Logf("%4.1f s  %s", time.Since(began).Seconds(), what) }
	worlds := []*world{newWorld(t, fewHosts, fewEach)}
	step("the small cluster is there")
	worlds = append(worlds, newWorld(t, manyHosts, manyEach))
	step("the large cluster is there")
	for _, w := range worlds {
		w.change()
		step("changes were counted")
	}
	atRest(t, worlds)
	step("a minute was counted")
	var table strings.Builder
	for _, event := range events {
		for _, cost := range costs {
			bound := "none yet"
			for _, b := range bounds {
				if b.event != event || b.cost != cost.name {
					continue
				}
				bound = fmt.Sprint(b.most)
				for _, w := range worlds {
					if got := cost.of(w.costs[event]); got > b.most {
						t.Errorf("%s, %d other hosts: %s: %d, at most %d are right:\n%s", event, len(w.peers.all), cost.name, got, b.most, w.costs[event])
					}
				}
			}
			fmt.Fprintf(&table, "%-34s %-26s %9d %9d   %s\n", event, cost.name, cost.of(worlds[0].costs[event]), cost.of(worlds[1].costs[event]), bound)
		}
	}
	t.Logf("costs at %d and at %d other hosts, and their bound:\n%s", fewHosts, manyHosts, table.String())
	if testing.Verbose() {
		for _, event := range events {
			t.Logf("%s, %d other hosts:\n%s", event, manyHosts, worlds[1].costs[event])
		}
	}
}

func newWorld(t testing.TB, hosts, each int) *world {
	t.Helper()
	w := &world{host: newHost(t), costs: map[string]tally.Counts{}}
	ctx := t.Context()
	var err error
	if w.peers, err = newPeers(ctx, t, w.server.Addr, hosts, each); err != nil {
		t.Fatal(err)
	}
	w.start()
	if w.net, err = newSegment(ctx, w.Docker(), libnetwork.ID("net", 0), wide.String(), local.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.net.join(ctx); err != nil {
		t.Fatal(err)
	}
	w.complete()
	return w
}

// complete waits until the switch has a flow to each endpoint of the other hosts.
func (w *world) complete() {
	w.T.Helper()
	w.Eventually("all other hosts' endpoints are in the switch", func() error {
		if got, want := w.flowsTo(macPeer), w.peers.first; got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// change makes each change once, and counts.
func (w *world) change() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), patience)
	defer cancel()
	flows := w.monitor("!delete,", macUpdate)
	defer flows.end()
	w.during(peerChange, func() error {
		mac, err := w.peers.all[3].update(ctx)
		if err == nil {
			_, err = flows.await(ctx, mac)
		}
		return err
	})
	w.during(localJoin, func() error { _, err := w.net.join(ctx); return err })
	w.during(networkMade, func() error {
		s, err := newSegment(ctx, w.Docker(), libnetwork.ID("more", 0), "10.128.0.0/24", "")
		if err == nil {
			s.made = 1000 // its endpoint is no other's
			_, err = s.join(ctx)
		}
		return err
	})
	w.during(hostJoins, func() error {
		err := w.peers.add(ctx, joinEach)
		if err == nil {
			w.complete()
		}
		return err
	})
	w.during(hostRestarts, func() error { return w.peers.all[5].restart(ctx) })
}

// during counts what the agent asks because of something, and until it rests again.
func (w *world) during(event string, do func() error) {
	w.T.Helper()
	w.settle()
	before := w.withKernel()
	if err := do(); err != nil {
		w.T.Fatalf("%s: %v", event, err)
	}
	w.settle()
	w.costs[event] = w.withKernel().Since(before)
}

// quiet is for how long nothing was asked when what a change causes is over; quietLimit is when it is taken as over anyway.
const (
	quiet      = 600 * time.Millisecond
	quietLimit = 10 * time.Second
)

// settle waits until the agent has asked nothing for a while.
func (h *host) settle() {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(h.T.Context(), quietLimit)
	defer cancel()
	last, since := h.counts(), time.Now()
	_ = testenv.Poll(ctx, 50*time.Millisecond, func() bool { // an agent that never rests is measured as it is
		now := h.counts()
		if len(now.Since(last)) > 0 {
			last, since = now, time.Now()
		}
		return time.Since(since) > quiet
	})
}

// atRest counts what agents ask in a minute in which nothing happens. Only the clock says when it is over.
func atRest(t *testing.T, worlds []*world) {
	t.Helper()
	before := make([]tally.Counts, len(worlds))
	for i, w := range worlds {
		w.settle()
		before[i] = w.withKernel()
	}
	over := time.NewTimer(time.Minute)
	defer over.Stop()
	select {
	case <-over.C:
	case <-t.Context().Done():
		t.Fatal(errors.New("the test ended"))
	}
	for i, w := range worlds {
		w.costs[minute] = w.withKernel().Since(before[i])
	}
}
