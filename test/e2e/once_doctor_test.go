package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// doctor breaks what doctor looks at, one after the other, and mends it again.
func (w *once) doctor(ctx context.Context, t *testing.T) {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	for _, h := range w.Hosts[:2] {
		w.docker(ctx, t, h, "run", "-d", "--name", "patient", "--network", "socketplane", lab.ImageName)
	}
	w.endpoints(ctx, t, "socketplane", 2)
	way := "way to " + h2.Name
	w.finds(ctx, t, h1, way, "ok", "came back through the tunnel")
	filter := func(rule string) []string {
		return []string{"nft", "add table inet broken; add chain inet broken in { type filter hook input priority 0; }; add rule inet broken in " + rule}
	}
	whole := []string{"nft", "delete", "table", "inet", "broken"}
	restart := "systemctl restart socketplane"
	if asPlugin() {
		restart = "docker plugin enable"
	}
	mtu := func(bytes string) []string { return []string{"ip", "link", "set", w.device(ctx, t, h2), "mtu", bytes} }
	for _, tt := range []struct {
		name       string
		at         *lab.Host
		harm, mend []string
		check      string
		state      string
		words      []string
	}{
		{"the port is closed", h2, filter("udp dport 4789 drop"), whole, way, "error", []string{"UDP port 4789", "no answer", "let UDP port 4789"}},
		{"the port is rejected", h2, filter("udp dport 4789 reject"), whole, way, "error", []string{"UDP port 4789", "is refused"}},
		{"ICMP is dropped", h2, filter("meta l4proto icmp drop"), whole, way, "ok", []string{"drops ICMP", "came back through the tunnel"}},
		{"the MTU differs", h2, mtu("1400"), mtu("1500"), way, "error", []string{"packets of 1500 bytes", "make the MTU between the hosts equal"}},
		{"the clock is wrong", h2, wrongClock(10 * time.Minute), whole, "clocks", "error", []string{"h2 is ", "ahead of this host's", "timedatectl"}},
		{"a socket is open to all", h1, []string{"chmod", "666", "/run/docker/plugins/socketplane.sock"},
			[]string{"chmod", "600", "/run/docker/plugins/socketplane.sock"}, "sockets", "error", []string{"mode 666", restart}},
	} {
		if w.tunnel == lab.TunnelOVS && tt.check == way {
			continue // a switch in user space takes packets before the host's firewall sees them
		}
		if _, err := tt.at.Exec(ctx, tt.harm...); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		w.finds(ctx, t, h1, tt.check, tt.state, tt.words...)
		if _, err := tt.at.Exec(ctx, tt.mend...); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		w.finds(ctx, t, h1, tt.check, "ok")
	}
	words := strings.Fields(w.ovsVersion(ctx, t, h1))
	version := words[len(words)-1]
	for _, tt := range []struct {
		check       string
		kill        func()
		start       func(context.Context) error
		words, well []string
	}{
		{"Docker", h1.KillDocker, func(ctx context.Context) error { return h1.StartDocker(ctx) }, []string{"systemctl start docker"}, []string{"networks of SocketPlane"}},
		{"Open vSwitch", h1.KillVSwitch, h1.StartVSwitch, []string{"systemctl restart openvswitch-switch"}, []string{version, "datapath netdev"}},
		{"store", w.Consul.Stop, w.Consul.Start, []string{"Consul at", "start Consul"}, []string{"3 hosts, 3 up"}},
	} {
		tt.kill()
		w.finds(ctx, t, h1, tt.check, "error", tt.words...)
		if err := tt.start(ctx); err != nil {
			t.Fatal(err)
		}
		w.finds(ctx, t, h1, tt.check, "ok", tt.well...)
	}
	// What this machine's kernel and the lab's switches are.
	w.finds(ctx, t, h1, "kernel module", "ok", "user space")
	if w.tunnel == lab.TunnelOVS {
		w.finds(ctx, t, h1, "segmentation offload", "ok", "off, as this tunnel needs it")
	} else {
		w.finds(ctx, t, h1, "segmentation offload", "ok", "on, in user space")
	}
	w.finds(ctx, t, h1, "stale state", "ok")
	w.finds(ctx, t, h1, "networks", "ok")
	w.finds(ctx, t, h1, "clocks", "ok", "2 other hosts")
	for _, h := range w.Hosts[:2] {
		w.docker(ctx, t, h, "rm", "-f", "patient")
	}
	w.endpoints(ctx, t, "socketplane", 0)
}

// ovsVersion is what a host's switch says of itself, such as: ovs-vswitchd (Open vSwitch) 3.1.0
func (w *once) ovsVersion(ctx context.Context, t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.Exec(ctx, "ovs-appctl", "-t", "ovs-vswitchd", "version")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(out, "\n")
	return first
}

// wrongClock makes a host tell another time: it shares the machine's clock with all others, so its kernel's answers are changed
// (the two times at the end of an ICMP timestamp reply, RFC 792).
func wrongClock(ahead time.Duration) []string {
	now := time.Now().UTC().Add(ahead)
	ms := uint64(now.Sub(now.Truncate(24 * time.Hour)).Milliseconds())
	return []string{"nft", fmt.Sprintf("add table inet broken; add chain inet broken out { type filter hook output priority 0; }; "+
		"add rule inet broken out icmp type timestamp-reply @th,96,64 set %d", ms<<32|ms)}
}

// device is the interface that has the host's underlay address.
func (w *once) device(ctx context.Context, t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.SocketPlane(ctx, "info", "--format", "json")
	var info struct{ Host struct{ Underlay string } }
	if err == nil {
		err = json.Unmarshal([]byte(out), &info)
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Host.Underlay
}

// finds waits until a check of doctor is in that state and says all the words.
func (w *once) finds(ctx context.Context, t *testing.T, h *lab.Host, check, state string, words ...string) {
	t.Helper()
	eventually(ctx, t, patience, func(ctx context.Context) error {
		out, err := h.SocketPlane(ctx, "doctor", "--format", "json") // fails when it finds an error, and says so as well
		var found struct {
			Checks []struct{ Name, State, Text, Cure string }
		}
		if json.NewDecoder(strings.NewReader(out)).Decode(&found) != nil {
			return fmt.Errorf("doctor: %w: %s", err, out)
		}
		for _, c := range found.Checks {
			if c.Name != check {
				continue
			}
			for _, word := range words {
				if !strings.Contains(c.Text+" "+c.Cure, word) {
					return fmt.Errorf("%s does not say %q: %+v", check, word, c)
				}
			}
			if c.State != state {
				return fmt.Errorf("%s is not %s: %+v", check, state, c)
			}
			return nil
		}
		return fmt.Errorf("there is no check %q: %s", check, out)
	})
}
