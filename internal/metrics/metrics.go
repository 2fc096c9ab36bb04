// Package metrics owns what Prometheus reads of the agent: the names and the help of all metrics (docs/metrics.md lists them), the registry of the process, that of one
// agent's parts, and the HTTP server that shows both.
//
// It imports Prometheus' client, internal/meter, and the counts of internal/hostlink and internal/dataplane/ovs as values. It must not know how the agent is put
// together, and waits for no handler.
package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/socketplane/socketplane/internal/meter"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/store"
)

// Process are what Prometheus reads of the process; an agent has a registry of its own beside them. Its methods may be called concurrently.
type Process struct {
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
	StoreCluster = "cluster"
	StoreLocal   = "local"
)

// New makes those that are counted where things happen; Collect adds those that are asked for.
func New() *Process {
	m := &Process{
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
	for _, which := range []string{StoreCluster, StoreLocal} {
		for _, op := range meter.Operations() {
			m.storeFailed.WithLabelValues(which, op)
		}
	}
	return m
}

// Observe counts one call of Docker.
func (m *Process) Observe(method string, took time.Duration, err error) {
	m.took.WithLabelValues(method).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(method).Inc()
	}
}

// Measured is a store whose operations are counted.
func (m *Process) Measured(kv store.KV, which string) store.KV {
	return meter.New(kv, func(op string, took time.Duration, failed bool) {
		if op != meter.Watch && op != meter.Announce {
			m.storeTook.WithLabelValues(which, op).Observe(took.Seconds())
		}
		if failed {
			m.storeFailed.WithLabelValues(which, op).Inc()
		}
	})
}

// Serving counts the calls of a server until the returned function is called.
func (m *Process) Serving(server *plugin.Server) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers[server] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.servers, server)
	}
}

func (m *Process) inFlight() (sum int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.servers {
		sum += s.InFlight()
	}
	return sum
}

// ServeReady adds what is known with and without an agent. ready is nil while containers can be attached. It must be called once.
func (m *Process) ServeReady(ready func(context.Context) error) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "socketplane_ready",
			Help: "1 while packets can be forwarded and containers attached."},
			func() float64 { return bit(ready(context.Background()) == nil) }), // Prometheus gives no context
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "socketplane_plugin_in_flight",
			Help: "Calls of Docker that are being answered, those that wait for their turn included."},
			func() float64 { return float64(m.inFlight()) }))
}

// Gatherer gathers the metrics of the process and of an agent's parts, as Collect makes them, nil for none.
func (m *Process) Gatherer(parts *prometheus.Registry) prometheus.Gatherer {
	if parts == nil {
		return m.registry
	}
	return prometheus.Gatherers{m.registry, parts}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
