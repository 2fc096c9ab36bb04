package presence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/store"
)

// fewLinks is a kernel with one interface, or one that can't be asked.
type fewLinks struct{ err error }

func (l *fewLinks) Connected(context.Context) ([]hostlink.Connected, error) {
	if l.err != nil {
		return nil, l.err
	}
	return []hostlink.Connected{{Subnet: netip.MustParsePrefix("10.7.0.0/24"), Dev: "eth0"}}, nil
}

func (l *fewLinks) Routed(context.Context) ([]netip.Prefix, error) { return nil, l.err }

func (l *fewLinks) Reserve(context.Context, []netip.Prefix) error { return nil }

func (l *fewLinks) Reserved(context.Context) (bool, error) { return true, nil }

// lateDocker is an engine that does not answer.
type lateDocker struct{ subnets.Docker }

func (lateDocker) Ready() error { return dockerwatch.ErrUnavailable }

// TestUnknownUsesStayPublished: what a host uses and can't be read now is in its record as before, also after the agent's restart: other hosts would take
// these subnets for free.
func TestUnknownUsesStayPublished(t *testing.T) {
	w := newSeats(t)
	m := w.machine("192.0.2.1")
	links := &fewLinks{}
	var out bytes.Buffer
	m.unread = retry.Trouble{Logger: slog.New(slog.NewTextHandler(&out, nil)), Text: "unread"}
	m.deps.Subnets = subnets.New(m.deps.Cluster, links, subnets.Options{Docker: lateDocker{}})
	m.seat.hold()
	published := func() string {
		t.Helper()
		if err := m.publish(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		members, err := m.deps.Cluster.Hosts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h := members.Hosts[sameID]
		return fmt.Sprint(h.Uses, h.Subnets)
	}
	bridge := store.Use{Subnet: netip.MustParsePrefix("172.20.0.0/16"), Network: "compose_default"}
	old := store.Use{Subnet: netip.MustParsePrefix("10.9.0.0/24"), Dev: "eth1"}
	if err := m.deps.Cluster.PutHost(t.Context(), store.Host{Name: "web1", Uses: []store.Use{old, bridge}}); err != nil {
		t.Fatal(err)
	}
	// The agent has just started, before Docker.
	want := "[its interface eth0 its Docker network compose_default] [10.7.0.0/24 172.20.0.0/16]"
	if got := published(); got != want {
		t.Errorf("before Docker answers: %s, want %s", got, want)
	}
	links.err = errors.New("dump interrupted")
	for range 3 {
		if got := published(); got != want {
			t.Errorf("while the kernel can't be asked: %s, want %s", got, want)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	links.err = nil
	m.deps.Subnets = subnets.New(m.deps.Cluster, links, subnets.Options{}) // without Docker's API there are no networks of Docker
	if got := published(); got != "[its interface eth0] [10.7.0.0/24]" {
		t.Errorf("without Docker's API: %s", got)
	}
}
