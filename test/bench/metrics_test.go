package bench

import (
	"math"
	"testing"
)

const metricsText = `# TYPE socketplane_plugin_request_seconds histogram
socketplane_plugin_request_seconds_bucket{method="NetworkDriver.Join",le="0.001"} 0
socketplane_plugin_request_seconds_bucket{method="NetworkDriver.Join",le="0.002"} 2
socketplane_plugin_request_seconds_bucket{method="NetworkDriver.Join",le="0.004"} 10
socketplane_plugin_request_seconds_bucket{method="NetworkDriver.Join",le="+Inf"} 10
socketplane_plugin_request_seconds_sum{method="NetworkDriver.Join"} 0.03
socketplane_plugin_request_seconds_count{method="NetworkDriver.Join"} 10
# TYPE socketplane_ready gauge
socketplane_ready 1
`

func TestHistogram(t *testing.T) {
	all, err := parseMetrics(metricsText)
	if err != nil {
		t.Fatal(err)
	}
	h := all["NetworkDriver.Join"]
	if h.Count != 10 || math.Abs(h.Mean()-0.003) > 1e-9 {
		t.Errorf("%d calls of %v s, want 10 of 0.003", h.Count, h.Mean())
	}
	if got := h.Quantile(0.5); math.Abs(got-0.00275) > 1e-9 { // 3 of the 8 in the bucket of 2 to 4 ms
		t.Errorf("median %v, want 0.00275", got)
	}
	if got := h.Quantile(0.2); got != 0.002 {
		t.Errorf("quantile at a bound is %v, want 0.002", got)
	}
	none := all.since(all)["NetworkDriver.Join"]
	if none.Count != 0 || !math.IsNaN(none.Mean()) {
		t.Errorf("nothing happened since, but %+v", none)
	}
	if all.since(histograms{})["NetworkDriver.Join"].Count != 10 {
		t.Error("a method that was not called before is lost")
	}
}
