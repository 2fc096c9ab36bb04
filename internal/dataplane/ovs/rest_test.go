package ovs_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// TestStartsCompareOnce: after a first start no flow is read back from the switch, as it has acknowledged each and tells of what others change; a
// restart reads them once. The passes that follow read neither flows nor the forwarding entries of a large network.
func TestStartsCompareOnce(t *testing.T) {
	h := newHost(t)
	h.opts.Resync = 500 * time.Millisecond
	n := crowd(30)
	for _, life := range []struct {
		name    string
		flows   uint64 // dumps of flows
		entries uint64 // the most forwarding entries that are read; the kernel has a few of its own
	}{
		{"first start", 0, 100}, {"restart", 1, 3030 + 100},
	} {
		flows, entries := openflow.Totals().Dumps, h.links.Counts().EntriesRead
		h.start(n)
		h.passes(6)
		if got := openflow.Totals().Dumps - flows; got != life.flows {
			t.Errorf("%s: %d dumps of flows, want %d", life.name, got, life.flows)
		}
		if got := h.links.Counts().EntriesRead - entries; got > life.entries {
			t.Errorf("%s: %d forwarding entries are read, want at most %d", life.name, got, life.entries)
		}
		if got, want := len(h.flows()), h.agent.Status().Flows; got != want {
			t.Errorf("%s: %d flows of %d", life.name, got, want)
		}
		h.agent.stop()
	}
}

// TestReplayBesideOthersIsCompared: where the switch has other flows than the replay's, they are compared, once.
func TestReplayBesideOthersIsCompared(t *testing.T) {
	h := newHost(t)
	h.start()
	h.agent.stop()
	h.ovs.Ofctl("del-flows", bridge)
	h.ovs.Ofctl("add-flow", bridge, "cookie=0x77,table=200,priority=7,actions=drop")
	h.opts.Resync = 500 * time.Millisecond
	before := openflow.Totals().Dumps
	h.start(crowd(3))
	h.passes(6)
	if got := openflow.Totals().Dumps - before; got != 1 {
		t.Errorf("%d dumps of flows, want 1", got)
	}
}

// TestDriftAfterReplayIsNoticed: what another program changes after a replay is mended at once, though nothing was read back.
func TestDriftAfterReplayIsNoticed(t *testing.T) {
	h := newHost(t)
	h.start(crowd(3))
	want := h.agent.Status().Flows
	if out, err := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "del-flows", "unix:"+h.ovs.Mgmt(bridge), "dl_dst=02:02:00:00:01:07").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "it is mended", func() error {
		if got := len(h.flows()); got != want || h.agent.Status().Drift.Flows == 0 {
			return fmt.Errorf("%d flows of %d", got, want)
		}
		return nil
	})
}

// TestChangesDuringTheFirstPass: what is changed until an agent is ready is in the switch soon after, at any step of the first pass.
func TestChangesDuringTheFirstPass(t *testing.T) {
	h := newHost(t)
	n := crowd(30)
	h.start(n)
	h.agent.stop()
	h.opts.Resync = time.Hour
	a := h.begin(n)
	came := 0
	for ; a.Ready() != nil && came < 5000; came++ {
		c := elsewhere()
		c.Peers[0].Set[0].ID = fmt.Sprintf("new-%d", came)
		c.Peers[0].Set[0].MAC = dataplane.MAC{2, 4, 0, 0, byte(came >> 8), byte(came)}
		c.Peers[0].Set[0].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 201, byte(came >> 8), byte(came)})}
		if err := a.Apply(h.ctx(), c); err != nil && !errors.Is(err, ovs.ErrNotReady) {
			t.Fatal(err)
		}
		select { // some changes in each part of the pass
		case <-a.Up():
		case <-time.After(time.Millisecond):
		}
	}
	eventually(t, "all are in the switch", func() error {
		got := strings.Count(strings.Join(h.flows(), "\n"), "dl_dst=02:04:")
		if got != came {
			return fmt.Errorf("%d of %d", got, came)
		}
		return nil
	})
}

// passes waits until the agent has looked at everything so often.
func (h *host) passes(n uint64) {
	h.t.Helper()
	eventually(h.t, "passes", func() error {
		if got := h.agent.Status().Passes; got < n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}
