package metrics_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/metrics"
)

// parts is an agent whose parts tell these figures.
type parts struct{}

func (parts) Status() ovs.Status {
	return ovs.Status{Flows: 7, Unreached: map[string]int{"a": 5, "b": 7}, Passes: 5, Failed: 2}
}
func (parts) Counts() hostlink.Counts { return hostlink.Counts{Dumps: 3, Entries: 4} }

type claimed struct{ err error }

func (c claimed) Counts(context.Context) (handedOut, resting, spare int, err error) {
	return 1, 2, 3, c.err
}

// text is what a scraper is told, and the error of what could not be asked.
func text(t *testing.T, g prometheus.Gatherer) (string, error) {
	t.Helper()
	families, err := g.Gather()
	var out strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String(), err
}

// TestCollect: each figure comes from its part; one that can't be had leaves out its own, with the error.
func TestCollect(t *testing.T) {
	process := metrics.New()
	process.ServeReady(func(context.Context) error { return nil })
	collect := func(err error) prometheus.Gatherer {
		return process.Gatherer(metrics.Collect(metrics.Parts{
			Started: time.Now().Add(-time.Hour), Links: parts{}, Plane: parts{}, Addresses: claimed{err},
			Networks: func() (int, int) { return 8, 9 }, Peers: func() (int, int) { return 10, 11 }, StoreSync: func() time.Time { return time.Time{} },
		}))
	}
	got, err := text(t, collect(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"socketplane_ready 1", "socketplane_plugin_in_flight 0", "socketplane_netlink_lists_total 3", "socketplane_forwarding_changes_total 4", "socketplane_flows 7", "socketplane_unreached_hosts 12",
		"socketplane_networks 8", "socketplane_endpoints 9", "socketplane_peers 10", "socketplane_peer_endpoints 11",
		`socketplane_reconcile_runs_total{result="ok"} 3`, `socketplane_reconcile_runs_total{result="failed"} 2`,
		`socketplane_addresses{state="handed_out"} 1`, `socketplane_addresses{state="resting"} 2`, `socketplane_addresses{state="spare"} 3`,
		"socketplane_seconds_since_store_sync 36", // since the process's start
	} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("%s is missing", line)
		}
	}
	got, err = text(t, collect(errors.New("no journal")))
	if err == nil || !strings.Contains(err.Error(), "no journal") || strings.Contains(got, "\nsocketplane_addresses{") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(got, "\nsocketplane_flows 7\n") {
		t.Errorf("the others' figures are missing:\n%s", got)
	}
	if got, err = text(t, process.Gatherer(nil)); err != nil || strings.Contains(got, "socketplane_flows") || !strings.Contains(got, "socketplane_ready 1") {
		t.Errorf("without an agent: %v\n%s", err, got)
	}
}
