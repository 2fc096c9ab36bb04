package ovs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

func TestNetworksComeAndGo(t *testing.T) {
	h := newHost(t)
	h.start()
	before := h.state()

	n := peer(network("a", 1, 2), "a", "127.0.0.2", 3)
	n.Local[1].Attached = false
	a := h.attach(n, "a-1")
	n = peer(network("a", 1, 2), "a", "127.0.0.2", 3)
	b := h.attach(n, "a-2")
	other := h.attach(network("b", 2), "b-2")
	mustReach(t, a, "10.1.100.2", "fd00::64:0:0:0:2")
	run(t, "ip", "-n", other, "addr", "add", "10.1.100.9/24", "dev", "eth0")
	if reaches(other, "10.1.100.1") == nil {
		t.Error("one network reaches the other")
	}

	full := h.state()
	for range 2 {
		h.set(n)
		if err := h.agent.Attach(h.ctx(), n, "a-2"); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.state(); got != full {
		t.Errorf("said again, it is\n%s\nand was\n%s", got, full)
	}

	n.Local[1].Attached = false // Leave: the link stays, for Docker moves it back
	h.set(n)
	if state := h.state(); strings.Contains(state, "dl_src=02:00:00:00:64:02") || !strings.Contains(state, "link: "+n.Local[1].HostLink) {
		t.Errorf("after Leave:\n%s", state)
	}
	if reaches(b, "10.1.100.1") == nil {
		t.Error("a detached endpoint reaches others")
	}
	n.Local = n.Local[:1]
	h.set(n)
	if state := h.state(); strings.Contains(state, local("a", 2).HostLink) {
		t.Errorf("after DeleteEndpoint:\n%s", state)
	}
	mustReach(t, a, "10.1.100.1")
	for range 2 {
		h.remove("network-a")
		h.remove("network-b")
	}
	if got := h.state(); got != before {
		t.Errorf("all networks are gone and it is\n%s\nat the start it was\n%s", got, before)
	}
	if s := h.agent.Status(); s.Flows != len(h.flows()) || s.Datapath != "netdev" || s.Tunnel != dataplane.TunnelKernel || !s.TSO {
		t.Errorf("status %+v with %d flows", s, len(h.flows()))
	}
}

func TestRestartedAgentInterruptsNothing(t *testing.T) {
	h := newHost(t)
	h.start()
	n := peer(network("a", 1, 2), "a", "127.0.0.2", 3)
	a := h.attach(n, "a-1")
	h.attach(n, "a-2")
	mustReach(t, a, "10.1.100.2")
	before, device := h.state(), h.link("vxlan")

	const restarts = 30
	sent := openflow.Totals().FlowMods
	undisturbed(t, restarts, func() { h.restart(n) }, h)
	mustReach(t, a, "10.1.100.2")
	if got := h.state(); got != before {
		t.Errorf("after restarts it is\n%s\nand was\n%s", got, before)
	}
	if h.link("vxlan") != device {
		t.Errorf("device is %s, was %s", h.link("vxlan"), device)
	}
	// The flows are those of before, not new ones under another generation.
	if g := h.generations(); len(g) != 1 || g[0] != "cookie=0x5350000000000001" {
		t.Errorf("generations %v", g)
	}
	if sent := openflow.Totals().FlowMods - sent; sent > 0 {
		t.Errorf("%d flow-mods", sent)
	}
}

func TestSwitchRestarts(t *testing.T) {
	h := newHost(t)
	h.start()
	n := peer(network("a", 1, 2), "a", "127.0.0.2", 3)
	a := h.attach(n, "a-1")
	h.attach(n, "a-2")
	before := h.state()
	for name, damage := range map[string]func(){
		"killed":             func() { h.ovs.StopVswitchd(); h.ovs.StartVswitchd() },
		"database restarted": func() { h.ovs.StopDB(); h.ovs.StartDB() },
		"database emptied":   h.emptyDB,
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			damage()
			eventually(t, "all is back", func() error {
				if err := h.agent.Ready(); err != nil {
					return err
				}
				return same(h, before)
			})
			mustReach(t, a, "10.1.100.2")
		})
	}
}

func same(h *host, want string) error {
	got, err := h.look()
	if err == nil && got != want {
		err = errors.New("it is\n" + got + "\nwant\n" + want)
	}
	return err
}

func TestWhatIsWantedWhileItCannotBeDone(t *testing.T) {
	h := newHost(t)
	h.start()
	empty := h.state()
	n, m := network("a", 1), network("b", 1)
	h.attach(n, "a-1")
	h.attach(m, "b-1")
	h.ovs.StopVswitchd()
	eventually(t, "the loss is noticed", func() error {
		if err := h.agent.Ready(); !errors.Is(err, ovs.ErrNotReady) || !strings.Contains(err.Error(), "ovs-vswitchd is not running") {
			return errors.Join(errors.New("not noticed"), err)
		}
		return nil
	})
	for _, err := range []error{
		h.agent.RemoveNetwork(h.ctx(), n.ID), h.agent.SetNetwork(h.ctx(), network("b")),
		h.agent.Attach(h.ctx(), network("c", 1), "c-1"),
	} {
		if !errors.Is(err, ovs.ErrNotReady) {
			t.Errorf("without a switch: %v", err)
		}
	}
	h.ovs.StartVswitchd()
	eventually(t, "it is as wanted", func() error { return same(h, empty) })
}

func TestHangingSwitchHoldsNobodyUp(t *testing.T) {
	h := newHost(t)
	h.start()
	n := network("a", 1)
	h.attach(n, "a-1")
	h.ovs.PauseVswitchd()
	defer h.ovs.ResumeVswitchd()
	const limit = 300 * time.Millisecond
	for name, call := range map[string]func(context.Context) error{
		"SetNetwork":    func(ctx context.Context) error { return h.agent.SetNetwork(ctx, network("a")) },
		"Attach":        func(ctx context.Context) error { return h.agent.Attach(ctx, network("b", 1), "b-1") },
		"RemoveNetwork": func(ctx context.Context) error { return h.agent.RemoveNetwork(ctx, "network-a") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		began := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(began); err == nil || took > limit+10*time.Second {
			t.Errorf("%s took %s: %v", name, took, err)
		}
	}
	h.ovs.ResumeVswitchd()
	eventually(t, "what was said while it hung is true", func() error {
		if strings.Contains(h.state(), n.Local[0].HostLink) {
			return errors.New(h.state())
		}
		return nil
	})
}

// TestInterruptedRemoval: a call that times out in the middle leaves some flows in the switch, of which the next call knows.
func TestInterruptedRemoval(t *testing.T) {
	h := newHost(t)
	h.start()
	remove := func(ctx context.Context) error { return h.agent.RemoveNetwork(ctx, "network-a") }
	leave := func(ctx context.Context) error { return h.agent.SetNetwork(ctx, network("a")) }
	join := func(ctx context.Context) error { return h.agent.Attach(ctx, network("a", 1), "a-1") }
	for name, calls := range map[string][]func(context.Context) error{
		"removed, then left":  {remove, leave},
		"left, then removed":  {leave, remove},
		"left, joined, left":  {leave, join, leave},
		"removed, and joined": {remove, join, remove, remove},
	} {
		empty := h.state()
		h.attach(network("a", 1), "a-1")
		h.ovs.PauseVswitchd()
		for i, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if err := call(ctx); err == nil {
				t.Errorf("%s: call %d has worked while the switch hung", name, i)
			}
			cancel()
		}
		h.ovs.ResumeVswitchd()
		eventually(t, name+": nothing of the network is left", func() error { return same(h, empty) })
		if err := h.agent.RemoveNetwork(t.Context(), "network-a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
