package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus reads; they have a registry of their own.
type metrics struct {
	registry *prometheus.Registry
	took     *prometheus.HistogramVec
	failed   *prometheus.CounterVec
}

func newMetrics(a *agent) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "socketplane_plugin_request_seconds", Help: "Time to answer Docker, by method.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s, the deadline being 10 s
		}, []string{"method"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "socketplane_plugin_errors_total", Help: "Calls of Docker that were answered with an error, by method.",
		}, []string{"method"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(m.took, m.failed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("socketplane_ready", "1 while packets can be forwarded and containers attached.", func() float64 {
			if a.plane.Ready() != nil {
				return 0
			}
			return 1
		}),
		gauge("socketplane_flows", "Flows that are wanted in the switch.", func() float64 { return float64(a.plane.Status().Flows) }),
		gauge("socketplane_flow_drift_total", "How often flows had to be mended.", func() float64 { return float64(a.plane.Status().Drift) }),
		gauge("socketplane_seconds_since_sync", "Seconds since everything was last found or made true.", func() float64 {
			return time.Since(a.plane.Status().LastSync).Seconds()
		}),
		gauge("socketplane_networks", "Networks on this host.", func() float64 { return float64(len(a.driver.Networks())) }),
		gauge("socketplane_endpoints", "Endpoints that have joined on this host.", func() float64 {
			sum := 0
			for _, n := range a.driver.Networks() {
				sum += n.Endpoints
			}
			return float64(sum)
		}),
	)
	return m
}

// observe counts one call of Docker.
func (m *metrics) observe(method string, took time.Duration, err error) {
	m.took.WithLabelValues(method).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(method).Inc()
	}
}

// serve serves /metrics until ctx ends.
func (m *metrics) serve(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics: %w: give another --metrics-addr", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape is not worth waiting for
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
