package agent

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/meter"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/store"
)

// metrics are what Prometheus reads of the process; an agent has a registry of its own beside them. docs/metrics.md lists them.
type metrics struct {
	registry    *prometheus.Registry
	mu          sync.Mutex
	servers     map[*plugin.Server]bool // that answer Docker
	took        *prometheus.HistogramVec
	failed      *prometheus.CounterVec
	storeTook   *prometheus.HistogramVec
	storeFailed *prometheus.CounterVec
}

// Which store an operation was on.
const (
	storeCluster = "cluster"
	storeLocal   = "local"
)

// newMetrics makes those that are counted where things happen; collect adds those that are asked for.
func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		servers:  map[*plugin.Server]bool{},
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "socketplane_plugin_request_seconds", Help: "Time to answer Docker, by method.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s, the deadline being 10 s
		}, []string{"method"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "socketplane_plugin_errors_total", Help: "Calls of Docker that were answered with an error, by method.",
		}, []string{"method"}),
		storeTook: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "socketplane_store_request_seconds", Help: "Time that a store took to answer, by store and operation.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 3, 12), // 50 µs, as bbolt, to 9 s
		}, []string{"store", "operation"}),
		storeFailed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "socketplane_store_errors_total", Help: "Operations that a store did not carry out, by store and operation.",
		}, []string{"store", "operation"}),
	}
	m.registry.MustRegister(m.took, m.failed, m.storeTook, m.storeFailed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, which := range []string{storeCluster, storeLocal} {
		for _, op := range meter.Operations() {
			m.storeFailed.WithLabelValues(which, op)
		}
	}
	return m
}

// observe counts one call of Docker.
func (m *metrics) observe(method string, took time.Duration, err error) {
	m.took.WithLabelValues(method).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(method).Inc()
	}
}

// measured is a store whose operations are counted.
func (m *metrics) measured(kv store.KV, which string) store.KV {
	return meter.New(kv, func(op string, took time.Duration, failed bool) {
		if op != meter.Watch && op != meter.Announce {
			m.storeTook.WithLabelValues(which, op).Observe(took.Seconds())
		}
		if failed {
			m.storeFailed.WithLabelValues(which, op).Inc()
		}
	})
}

// serving counts the calls of a server until the returned function is called.
func (m *metrics) serving(server *plugin.Server) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers[server] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.servers, server)
	}
}

func (m *metrics) inFlight() (sum int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.servers {
		sum += s.InFlight()
	}
	return sum
}

// serveReady adds what is known with and without an agent.
func (m *metrics) serveReady(s *supervisor) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "socketplane_ready",
			Help: "1 while packets can be forwarded and containers attached."},
			func() float64 { return bit(s.ready(context.Background()) == nil) }), // Prometheus gives no context
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "socketplane_plugin_in_flight",
			Help: "Calls of Docker that are being answered, those that wait for their turn included."},
			func() float64 { return float64(m.inFlight()) }))
}

// gatherer gathers the metrics of the process and of an agent, nil for none.
func (m *metrics) gatherer(a *agent) prometheus.Gatherer {
	if a == nil || a.collected == nil {
		return m.registry
	}
	return prometheus.Gatherers{m.registry, a.collected}
}

// collect makes a registry of what the agent's parts are asked for when somebody scrapes.
func collect(a *agent) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	add := func(value func() float64, name, help string) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	count := func(value func() uint64, name, help string) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	count(func() uint64 { return a.links.Counts().Dumps },
		"socketplane_netlink_lists_total", "Lists of links, addresses, routes or forwarding entries that the kernel was asked for.")
	count(func() uint64 { return a.links.Counts().Entries },
		"socketplane_forwarding_changes_total", "Changes of forwarding entries that the kernel was told.")
	add(func() float64 { return float64(a.plane.Status().Flows) },
		"socketplane_flows", "Flows that are wanted in the switch.")
	add(func() float64 { return a.since(a.plane.Status().LastSync) },
		"socketplane_seconds_since_sync", "Seconds since the switch and the links were last found or made true; since the start if never.")
	add(func() float64 { return a.since(a.lastSync()) },
		"socketplane_seconds_since_store_sync", "Seconds since nothing was left to be told to the store and it answered, which is looked at once a minute; since the start if never.")
	add(func() float64 { return float64(len(a.networks())) },
		"socketplane_networks", "Networks on this host.")
	add(func() float64 { return float64(a.endpoints()) },
		"socketplane_endpoints", "Endpoints that have joined on this host.")
	add(func() float64 { return float64(a.peerCount().hosts) },
		"socketplane_peers", "Other hosts with endpoints on networks of this host.")
	add(func() float64 { return float64(a.peerCount().endpoints) },
		"socketplane_peer_endpoints", "Endpoints of these hosts.")
	registry.MustRegister(reconciled{a.plane}, addresses{a})
	return registry
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// since is the age of a moment, that of the agent if it has not come.
func (a *agent) since(t time.Time) float64 {
	if t.IsZero() {
		t = a.started
	}
	return time.Since(t).Seconds()
}

func (a *agent) endpoints() (sum int) {
	for _, n := range a.networks() {
		sum += n.Endpoints
	}
	return sum
}

// reconciled counts what the data plane had to do.
type reconciled struct{ plane *ovs.Plane }

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
type addresses struct{ a *agent }

func (addresses) Describe(ch chan<- *prometheus.Desc) { ch <- descAddresses }

// countTimeout is less than a scrape may usually take (10 s).
const countTimeout = 5 * time.Second

func (c addresses) Collect(ch chan<- prometheus.Metric) {
	// Prometheus gives no context. Counts waits at most for the journal's first reading.
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	handedOut, resting, spare, err := c.a.ipam.Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(descAddresses, err)
		return
	}
	for state, n := range map[string]int{"handed_out": handedOut, "resting": resting, "spare": spare} {
		ch <- prometheus.MustNewConstMetric(descAddresses, prometheus.GaugeValue, float64(n), state)
	}
}
