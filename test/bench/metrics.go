package bench

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/socketplane/socketplane/test/lab"
)

// requestSeconds is the agent's histogram of Docker's calls.
const requestSeconds = "socketplane_plugin_request_seconds"

// Histogram is one of Prometheus: cumulative counts by upper bound, in seconds.
type Histogram struct {
	Count  uint64
	Sum    float64
	Bounds []float64
	Counts []uint64
}

// histograms are those of all methods.
type histograms map[string]Histogram

// scrape reads an agent's metrics.
func scrape(ctx context.Context, h *lab.Host) (histograms, error) {
	text, err := h.Exec(ctx, "busybox", "wget", "-qO-", "http://"+metricsAddr+"/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return parseMetrics(text)
}

func parseMetrics(text string) (histograms, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	all := histograms{}
	for _, m := range families[requestSeconds].GetMetric() {
		h := Histogram{Count: m.GetHistogram().GetSampleCount(), Sum: m.GetHistogram().GetSampleSum()}
		for _, b := range m.GetHistogram().GetBucket() {
			h.Bounds = append(h.Bounds, b.GetUpperBound())
			h.Counts = append(h.Counts, b.GetCumulativeCount())
		}
		for _, label := range m.GetLabel() {
			if label.GetName() == "method" {
				all[label.GetValue()] = h
			}
		}
	}
	return all, nil
}

// since leaves out what was counted before.
func (all histograms) since(before histograms) histograms {
	diff := histograms{}
	for method, h := range all {
		old, ok := before[method]
		if !ok {
			diff[method] = h
			continue
		}
		counts := make([]uint64, len(h.Counts))
		for i := range counts {
			counts[i] = h.Counts[i] - old.Counts[i]
		}
		diff[method] = Histogram{Count: h.Count - old.Count, Sum: h.Sum - old.Sum, Bounds: h.Bounds, Counts: counts}
	}
	return diff
}

// Mean is exact; NaN without a call.
func (h Histogram) Mean() float64 { return h.Sum / float64(h.Count) }

// Quantile is interpolated within its bucket, as Prometheus's histogram_quantile does; NaN without a call.
func (h Histogram) Quantile(q float64) float64 {
	rank := q * float64(h.Count)
	below, lower := uint64(0), 0.0
	for i, upper := range h.Bounds {
		if n := h.Counts[i]; float64(n) >= rank && n > below {
			if math.IsInf(upper, 1) {
				return lower
			}
			return lower + (upper-lower)*(rank-float64(below))/float64(n-below)
		} else {
			below, lower = n, upper
		}
	}
	return math.NaN()
}
