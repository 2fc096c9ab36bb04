package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/hostlink"
)

// Plane is the data plane, as far as it is counted.
type Plane interface{ Status() ovs.Status }

// Links are this host's links, as far as they are counted.
type Links interface{ Counts() hostlink.Counts }

// Addresses counts the addresses that this host has claimed. It may wait, until ctx ends, for the journal's first reading.
type Addresses interface {
	Counts(ctx context.Context) (handedOut, resting, spare int, err error)
}

// Parts are the parts of an agent that are asked when a scraper asks. Its functions may be called concurrently.
type Parts struct {
	// Started is when the process did.
	Started   time.Time
	Links     Links
	Plane     Plane
	Addresses Addresses
	// Networks counts those on this host and their endpoints here; it waits for no handler.
	Networks func() (networks, endpoints int)
	// Peers counts the other hosts with endpoints on these networks, and their endpoints; it may wait for a handler.
	Peers func() (hosts, endpoints int)
	// StoreSync is when nothing was left to be told to the store and it answered last; zero for never.
	StoreSync func() time.Time
}

// Collect makes a registry of what an agent's parts are asked for at each scrape.
func Collect(p Parts) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	add := func(value func() float64, name, help string) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	count := func(value func() uint64, name, help string) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	count(func() uint64 { return p.Links.Counts().Dumps },
		"socketplane_netlink_lists_total", "Lists of links, addresses, routes or forwarding entries that the kernel was asked for.")
	count(func() uint64 { return p.Links.Counts().Entries },
		"socketplane_forwarding_changes_total", "Changes of forwarding entries that the kernel was told.")
	add(func() float64 { return float64(p.Plane.Status().Flows) },
		"socketplane_flows", "Flows that are wanted in the switch.")
	add(func() float64 { return float64(p.Plane.Status().UnreachedHosts()) },
		"socketplane_unreached_hosts", "Hosts that broadcasts of this host's networks do not reach, as Open vSwitch has no room for so many; the sum over all networks.")
	add(func() float64 { return p.since(p.Plane.Status().LastSync) },
		"socketplane_seconds_since_sync", "Seconds since the switch and the links were last found or made true; since the start if never.")
	add(func() float64 { return p.since(p.StoreSync()) },
		"socketplane_seconds_since_store_sync", "Seconds since nothing was left to be told to the store and it answered, which is looked at once a minute; since the start if never.")
	add(func() float64 { networks, _ := p.Networks(); return float64(networks) },
		"socketplane_networks", "Networks on this host.")
	add(func() float64 { _, endpoints := p.Networks(); return float64(endpoints) },
		"socketplane_endpoints", "Endpoints that have joined on this host.")
	add(func() float64 { hosts, _ := p.Peers(); return float64(hosts) },
		"socketplane_peers", "Other hosts with endpoints on networks of this host.")
	add(func() float64 { _, endpoints := p.Peers(); return float64(endpoints) },
		"socketplane_peer_endpoints", "Endpoints of these hosts.")
	registry.MustRegister(reconciled{p.Plane}, addresses{p.Addresses})
	return registry
}

// since is the age of a moment in seconds, that of the process if it has not come.
func (p Parts) since(t time.Time) float64 {
	if t.IsZero() {
		t = p.Started
	}
	return time.Since(t).Seconds()
}

// reconciled counts what the data plane had to do.
type reconciled struct{ plane Plane }

var (
	descRuns = prometheus.NewDesc("socketplane_reconcile_runs_total",
		"How often everything on the switch was compared with what is wanted, by result (ok or failed).", []string{"result"}, nil)
	descDrift = prometheus.NewDesc("socketplane_reconcile_drift_total",
		"What had to be mended though nobody had asked for a change, by kind (flows, ports, links, or strays: addresses and routes on our links).", []string{"kind"}, nil)
	descAddresses = prometheus.NewDesc("socketplane_addresses",
		"Addresses that this host has claimed, by state (handed_out, resting or spare).", []string{"state"}, nil)
)

func (reconciled) Describe(ch chan<- *prometheus.Desc) { ch <- descRuns; ch <- descDrift }

func (r reconciled) Collect(ch chan<- prometheus.Metric) {
	st := r.plane.Status()
	count := func(desc *prometheus.Desc, n uint64, label string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
	}
	count(descRuns, st.Passes-st.Failed, "ok")
	count(descRuns, st.Failed, "failed")
	count(descDrift, st.Drift.Flows, "flows")
	count(descDrift, st.Drift.Ports, "ports")
	count(descDrift, st.Drift.Links, "links")
	count(descDrift, st.Drift.Strays, "strays")
}

// addresses counts what this host has claimed.
type addresses struct{ Addresses }

func (addresses) Describe(ch chan<- *prometheus.Desc) { ch <- descAddresses }

// countTimeout is less than a scrape may usually take (10 s).
const countTimeout = 5 * time.Second

func (c addresses) Collect(ch chan<- prometheus.Metric) {
	// Prometheus gives no context. Counts waits at most for the journal's first reading.
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	handedOut, resting, spare, err := c.Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(descAddresses, err)
		return
	}
	for state, n := range map[string]int{"handed_out": handedOut, "resting": resting, "spare": spare} {
		ch <- prometheus.MustNewConstMetric(descAddresses, prometheus.GaugeValue, float64(n), state)
	}
}
