package ovs_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// inVain bounds a probe that gets no answer, and so takes that long.
const inVain = 3 * time.Second

func probed(h *host, within time.Duration, to string, size int) (int, dataplane.MAC, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return h.agent.Probe(ctx, netip.MustParseAddr(to), size)
}

func TestProbe(t *testing.T) {
	for name, underlay := range map[string][2]string{
		"over IPv4": {"192.0.2.1/24", "192.0.2.2/24"},
		"over IPv6": {"2001:db8::1/64", "2001:db8::2/64"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			p := kernelPair(t, underlay[0], underlay[1])
			checkProbes(t, p)
		})
	}
}

// checkProbes breaks the way of a pair that talks.
func checkProbes(t *testing.T, p *pair) {
	t.Helper()
	peerVTEP := p.b.opts.Underlay.Addr.String()
	if _, _, err := probed(p.a, patience, peerVTEP, 64); err != nil {
		t.Errorf("small: %v", err)
	}
	if size, from, err := probed(p.a, patience, peerVTEP, 0); err != nil || size != p.netA.MTU || from != pipeline.ProbeMAC(p.b.opts.Host) {
		t.Errorf("largest: %d bytes, answered by %s: %v", size, from, err)
	}
	if _, _, err := probed(p.a, patience, "192.0.2.99", 64); !errors.Is(err, ovs.ErrNoTunnel) {
		t.Errorf("a stranger: %v", err)
	}
	p.mustTalk(t) // probes leave nothing behind
	run(t, "ip", "netns", "exec", p.b.ns, "nft", "add table inet test; add chain inet test in { type filter hook input priority 0; }; add rule inet test in udp dport 4789 drop")
	if _, _, err := probed(p.a, inVain, peerVTEP, 64); !errors.Is(err, ovs.ErrNoAnswer) {
		t.Errorf("with the port closed: %v", err)
	}
}
