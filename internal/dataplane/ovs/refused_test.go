package ovs_test

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestFlowThatTheSwitchRefuses is trouble of its network alone: other networks' containers join, a restarted agent and a
// restarted switch give all others their flows, and what can be had of its own network is there.
func TestFlowThatTheSwitchRefuses(t *testing.T) {
	h := newHost(t)
	h.start()
	bad := network("b", 1, 2)
	b := h.attach(network("b", 1), "b-1")
	bad.Local[1].Port = 70000 // no port of 16 bits
	if err := h.agent.SetNetwork(h.ctx(), bad); err == nil || !strings.Contains(err.Error(), "network-b") {
		t.Errorf("a flow that is refused: %v", err)
	}
	told := func() error {
		if err := h.agent.Status().Err; err == nil || !strings.Contains(err.Error(), "network-b are refused") {
			return errors.Join(errors.New("it is not told"), err)
		}
		return h.agent.Ready()
	}
	eventually(t, "it is told", told)
	good := network("a", 1, 2)
	a := h.attach(good, "a-1")
	h.attach(good, "a-2")
	mustReach(t, a, "10.1.100.2")
	// The flow of the network's broadcasts names the bad port too. Containers join without it.
	bad = network("b", 1, 2, 3)
	bad.Local[1].Port = 70000
	h.attach(bad, "b-3")
	mustReach(t, b, "10.1.101.3")
	eventually(t, "it is told still", told)
	for name, again := range map[string]func(){
		"agent": func() { h.restart(good, bad) }, "switch": func() { h.ovs.StopVswitchd(); h.ovs.StartVswitchd() },
	} {
		again()
		eventually(t, "after a restart of the "+name, told)
		mustReach(t, a, "10.1.100.2")
		guard := "dl_src=" + mac("b", 1).String()
		if all := strings.Join(h.flows(), "\n"); !strings.Contains(all, guard) {
			t.Errorf("after a restart of the %s the flows of the endpoint beside are missing:\n%s", name, all)
		}
	}
	h.set(network("b", 1))
	eventually(t, "the cure", func() error { return h.agent.Status().Err })
}

// TestControllerOfOthers: Open vSwitch forgets the flows of a bridge that gets a controller, and those of one that loses it.
func TestControllerOfOthers(t *testing.T) {
	h := newHost(t)
	h.opts.Resync = time.Hour
	h.start()
	a := h.attach(network("a", 1, 2), "a-1")
	h.attach(network("a", 1, 2), "a-2")
	mustReach(t, a, "10.1.100.2")
	before := h.state()
	h.ovs.Vsctl("set-controller", bridge, "tcp:127.0.0.1:1")
	eventually(t, "the flows are back", func() error {
		if got := h.ovs.Vsctl("get-controller", bridge); got != "" {
			return errors.New("controller " + got)
		}
		return same(h, before)
	})
	mustReach(t, a, "10.1.100.2")
}
