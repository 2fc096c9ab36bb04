package ovs_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl"
)

// forwardingEntries are those of a device, sorted.
func (h *host) forwardingEntries(device string) string {
	h.t.Helper()
	lines := strings.Split(run(h.t, "bridge", "-n", h.ns, "fdb", "show", "dev", device), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// lines is a log that counts.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// TestDriftIsSaidOnce: a program that changes flows again and again is one trouble, not a line each time.
func TestDriftIsSaidOnce(t *testing.T) {
	h := newHost(t)
	var log lines
	h.opts.Resync, h.opts.Logger = 100*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
	h.start()
	h.attach(network("a", 1), "a-1")
	cookie := h.generations()[0]
	for range 5 {
		before := h.agent.Status().Drift.Flows
		h.ovs.Ofctl("add-flow", bridge, cookie+",table=10,priority=7,ip,actions=drop")
		eventually(t, "it is mended", func() error {
			if h.agent.Status().Drift.Flows == before {
				return errors.New("not yet")
			}
			return nil
		})
	}
	if n := log.count("flows of the switch are not what they were"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

func TestDriftIsMended(t *testing.T) {
	h := newHost(t)
	h.opts.Resync = 200 * time.Millisecond
	h.start()
	n := peer(network("a", 1, 2), "a", "127.0.0.2", 3)
	for i := range n.Local {
		n.Local[i].MTU = 1450
	}
	a := h.attach(n, "a-1")
	h.attach(n, "a-2")
	mustReach(t, a, "10.1.100.2")
	device, link := h.link("vxlan"), n.Local[1].HostLink
	before, entries := h.state(), h.forwardingEntries(device)
	if !strings.Contains(entries, mac("a", 3).String()+" dst 127.0.0.2 self permanent") ||
		!strings.Contains(entries, "00:00:00:00:00:00 dst 127.0.0.2 self permanent") {
		t.Fatalf("forwarding entries:\n%s", entries)
	}
	cookie := h.generations()[0]
	for _, c := range []struct {
		name   string
		damage func()
	}{
		{"flow deleted", func() { h.ovs.Ofctl("--strict", "del-flows", bridge, "table=0,priority=100,in_port=1") }},
		{"all flows deleted", func() { h.ovs.Ofctl("del-flows", bridge) }},
		{"flow added", func() { h.ovs.Ofctl("add-flow", bridge, cookie+",table=10,priority=7,ip,actions=drop") }},
		{"flow that we can't read", func() {
			h.ovs.Ofctl("add-flow", bridge, cookie+",table=10,priority=7,tcp,tp_src=1,actions=learn(table=99)")
		}},
		{"flow of an older generation", func() {
			h.ovs.Ofctl("add-flow", bridge, "cookie=0x5350000000000000,table=10,priority=7,ip,actions=drop")
		}},
		{"flow changed", func() {
			h.ovs.Ofctl("add-flow", bridge, cookie+",table=50,priority=0,actions=drop")
		}},
		{"flow replaced under another cookie", func() {
			h.ovs.Ofctl("add-flow", bridge, "cookie=0x1,table=50,priority=0,actions=drop")
		}},
		{"port removed", func() { h.ovs.Vsctl("del-port", bridge, link) }},
		{"port number changed", func() { h.ovs.Vsctl("set", "Interface", link, "ofport_request=4444") }},
		{"port added with our mark", func() {
			h.ovs.Vsctl("add-port", bridge, "odd", "--", "set", "Port", "odd", "external_ids:socketplane=endpoint",
				"--", "set", "Interface", "odd", "type=internal")
		}},
		{"bridge deleted", func() { h.ovs.Vsctl("del-br", bridge) }},
		{"fail mode changed", func() { h.ovs.Vsctl("set-fail-mode", bridge, "standalone") }},
		{"forwarding entry removed", func() {
			run(t, "bridge", "-n", h.ns, "fdb", "del", mac("a", 3).String(), "dev", device, "dst", "127.0.0.2")
		}},
		{"forwarding entry added", func() {
			run(t, "bridge", "-n", h.ns, "fdb", "append", "00:00:00:00:00:00", "dev", device, "dst", "127.0.0.9")
		}},
		{"device down", func() { h.ip("link", "set", device, "down") }},
		{"device's MTU changed", func() { h.ip("link", "set", device, "mtu", "1300") }},
		{"link down", func() { h.ip("link", "set", link, "down") }},
		{"link's MTU changed", func() { h.ip("link", "set", link, "mtu", "1300") }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			c.damage()
			eventually(t, "mended", func() error {
				if err := same(h, before); err != nil {
					return err
				}
				if got := h.forwardingEntries(device); got != entries {
					return errors.New("forwarding entries:\n" + got + "\nwant\n" + entries)
				}
				for _, name := range []string{device, link} {
					if show := h.ip("link", "show", name); !strings.Contains(show, ",UP") || !strings.Contains(show, "mtu 1450") {
						return errors.New(show)
					}
				}
				if h.ovs.Vsctl("get-fail-mode", bridge) != "secure" {
					return errors.New("fail mode")
				}
				return h.portsServed(n)
			})
			mustReach(t, a, "10.1.100.2")
		})
	}
	if h.agent.Status().Drift.Flows < 6 {
		t.Errorf("drift was counted %d times", h.agent.Status().Drift.Flows)
	}
}

// portsServed demands that the switch has every port, under the number that the flows have.
func (h *host) portsServed(n dataplane.Network) error {
	for _, p := range h.agent.sw.Ports() {
		if p.OFPortActual != int(p.OFPort) || p.Error != "" {
			return errors.New(p.Name + ": " + p.Error)
		}
	}
	if got := len(h.agent.sw.Ports()); got != len(n.Local)+1 {
		return errors.New("ports are missing")
	}
	return nil
}

// What others have on our bridge or beside it stays, whatever we do.
func TestForeignThingsStay(t *testing.T) {
	h := newHost(t)
	h.opts.Resync = 100 * time.Millisecond
	h.start()
	h.ovs.Vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev", "--",
		"add-port", bridge, "guest", "--", "set", "Interface", "guest", "type=internal", "ofport_request=40000")
	h.ovs.Ofctl("add-flow", bridge, "cookie=0x1234,table=0,priority=7,in_port=40000,actions=drop")
	h.ip("link", "add", "spx0123456789ab", "type", "veth", "peer", "name", "sph0123456789ab")
	h.ip("link", "set", "spx0123456789ab", "alias", "another's")
	h.ip("link", "add", "vx", "type", "vxlan", "id", "9", "dstport", "4790", "local", "127.0.0.1")
	before := h.state()
	for range 2 {
		n := network("a", 1)
		h.attach(n, "a-1")
		h.ovs.Ofctl("del-flows", bridge, "cookie=0x5350000000000000/0xffff000000000000")
		eventually(t, "drift is found", func() error {
			if h.agent.Status().Drift.Flows == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		h.remove(n.ID)
		h.agent.stop()
		h.start()
	}
	eventually(t, "as before", func() error { return same(h, before) })
	if got := h.ovs.Vsctl("list-br"); got != bridge+"\ntheirs" {
		t.Errorf("bridges: %s", got)
	}
}

func TestStaleLinksAreCollected(t *testing.T) {
	h := newHost(t)
	n := network("a", 1)
	h.ip("link", "add", "sphaaaaaaaaaaaa", "type", "veth", "peer", "name", "sppaaaaaaaaaaaa")
	h.ip("link", "set", "sphaaaaaaaaaaaa", "alias", "socketplane:endpoint:long-gone")
	h.ip("link", "add", "spxaaaaaaaaaaaa", "type", "vxlan", "id", "100", "dstport", "4789", "local", "127.0.0.1")
	h.ip("link", "set", "spxaaaaaaaaaaaa", "alias", "socketplane:vxlan:"+n.ID)
	h.ip("link", "add", n.Local[0].HostLink, "type", "veth", "peer", "name", n.Local[0].PeerLink)
	h.ip("link", "set", n.Local[0].HostLink, "alias", "socketplane:endpoint:a-1")
	h.start(n) // as after a crash: the endpoint's link is there, and a device without a port
	state := h.state()
	if strings.Contains(state, "aaaaaaaaaaaa") || !strings.Contains(state, n.Local[0].HostLink) {
		t.Errorf("it is\n%s", state)
	}
	eventually(t, "its port and a device are made", func() error { return h.portsServed(n) })

	// The container's namespace goes without a word: its port goes too, and comes with a new link.
	h.ip("link", "del", n.Local[0].HostLink)
	eventually(t, "the port goes", func() error {
		if got := h.ovs.Vsctl("list-ports", bridge); strings.Contains(got, n.Local[0].HostLink) {
			return errors.New(got)
		}
		return nil
	})
	h.attach(n, "a-1")
}

func TestTroubleOfOneNetworkIsItsOwn(t *testing.T) {
	h := newHost(t)
	h.start()
	h.ip("link", "add", "swarm", "type", "vxlan", "id", "101", "dstport", "4789", "local", "127.0.0.1")
	good, bad := network("a", 1, 2), network("b", 1)
	err := h.agent.Attach(h.ctx(), bad, "b-1")
	if err == nil || !strings.Contains(err.Error(), "swarm") {
		t.Fatalf("Attach on a VNI that is taken: %v", err)
	}
	// The driver wants it all the same, as after a restart.
	if err := h.agent.SetNetwork(h.ctx(), bad); err == nil {
		t.Error("SetNetwork on a VNI that is taken succeeded")
	}
	eventually(t, "it is told", func() error {
		if err := h.agent.Status().Err; err == nil || !strings.Contains(err.Error(), "network-b") {
			return errors.Join(errors.New("status"), err)
		}
		return h.agent.Ready()
	})
	a := h.attach(good, "a-1")
	h.attach(good, "a-2")
	mustReach(t, a, "10.1.100.2")
	h.ip("link", "del", "swarm") // and that is the cure
	eventually(t, "it is well", func() error { return h.agent.Status().Err })
	eventually(t, "its device has a port", func() error {
		name := h.device("b")
		if name == "" {
			return errors.New("no device")
		}
		_, err := h.agent.sw.WaitPort(h.ctx(), name)
		return err
	})
}

// device is the name of a network's device, "" if there is none.
func (h *host) device(name string) string {
	for _, p := range h.agent.sw.Ports() {
		if p.ExternalIDs[ovsctl.MarkKey+"-network"] == "network-"+name && p.OFPort >= dataplane.PortDeviceFirst {
			return p.Name
		}
	}
	return ""
}
