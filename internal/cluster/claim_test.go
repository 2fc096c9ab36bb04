package cluster_test

import (
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// refusedTime is how long it may take until a host is refused.
const refusedTime = 20 * time.Second

// refuses waits until a host that was started has ended with all these words.
func (h *host) refuses(words ...string) {
	h.s.t.Helper()
	h.s.await(h.cfg.Name+" is refused", refusedTime, func() bool { return !h.proc.Running() })
	said := testenv.TailFile(h.log(), 3)
	for _, word := range words {
		if !strings.Contains(said, word) {
			h.s.t.Errorf("%s does not say %q: %s", h.cfg.Name, word, said)
		}
	}
}

// copies gives a host what another has on its disk.
func (h *host) copies(of *host) {
	h.s.t.Helper()
	h.cfg.ID = of.cfg.ID
	if err := os.RemoveAll(h.cfg.Dir); err != nil {
		h.s.t.Fatal(err)
	}
	if err := os.CopyFS(h.cfg.Dir, os.DirFS(of.cfg.Dir)); err != nil {
		h.s.t.Fatal(err)
	}
}

// takes gives a host another host's address, which answers no ARP for it, as behind a router.
func (h *host) takes(of *host) {
	h.s.t.Helper()
	quiet := exec.Command("nsenter", "--net=/run/netns/"+h.space, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")
	if out, err := quiet.CombinedOutput(); err != nil {
		h.s.t.Fatalf("%v: %s", err, out)
	}
	ip(h.s.t, "-n", h.space, "addr", "add", of.cfg.Addr.String()+"/32", "dev", "lo")
	h.cfg.Addr = of.cfg.Addr
}

// TestOneIDOneAddress: a copy of a member, and hosts that say another member's address is theirs, are refused before their Consul starts, and
// the members go on.
func TestOneIDOneAddress(t *testing.T) {
	t.Parallel()
	s, hosts := three(t)
	one, last := hosts[0], hosts[2]
	well := func(what string) {
		t.Helper()
		for _, h := range hosts {
			if err := h.put(h.cfg.Name, url.QueryEscape(what)); err != nil {
				t.Errorf("%s: %s can't write: %v", what, h.cfg.Name, err)
			}
			if !h.at(h.cfg.Addr.String()) {
				t.Errorf("%s: %s is known elsewhere", what, h.cfg.Name)
			}
		}
	}
	clone := s.host()
	clone.copies(one)
	for range 2 { // the second time it remembers
		clone.start()
		clone.refuses("another machine has this host's id", one.cfg.Addr.String(), clone.cfg.Addr.String(), "socketplane clean --yes")
		well("beside a copy")
	}
	// A member is given another of its own addresses while its Consul runs.
	last.kill()
	ip(t, "-n", last.space, "addr", "add", "10.7.0.53/24", "dev", "eth0")
	last.cfg.Addr = netip.MustParseAddr("10.7.0.53")
	last.start()
	s.await("it is known at its other address", moveTime, func() bool { return last.at("10.7.0.53") })
	s.await("all are together", patience, func() bool { return formed(3, hosts...) })
	well("after a change of address")
	stranger := s.host()
	stranger.cfg.Join = []string{"10.7.0.2:4780"}
	stranger.takes(one)
	stranger.start()
	s.await("a host with another's address is refused", refusedTime, func() bool {
		return strings.Contains(stranger.status().Trouble, "10.7.0.1") && strings.Contains(stranger.status().Trouble, "--advertise")
	})
	well("beside a host with an address of theirs")
	last.crash()
	former := last.cfg.Addr
	last.takes(one)
	last.start()
	last.refuses("another host has this host's address", "10.7.0.1", "--advertise")
	ip(t, "-n", last.space, "addr", "flush", "dev", "lo", "scope", "global")
	last.cfg.Addr = former
	last.start()
	s.await("all are together at last", patience, func() bool { return formed(3, hosts...) })
	well("at last")
	if _, err := os.Stat(filepath.Join(stranger.cfg.Dir, "consul")); err == nil {
		t.Error("a host that was refused has started Consul")
	}
}
