package bench

import (
	"math"
	"testing"
)

func TestSeries(t *testing.T) {
	hundred := make(Series, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for name, c := range map[string]struct {
		series                Series
		median, p99, min, max float64
	}{
		"one":     {Series{3}, 3, 3, 3, 3},
		"even":    {Series{4, 1, 3, 2}, 2.5, 4, 1, 4},
		"odd":     {Series{5, 1, 3}, 3, 5, 1, 5},
		"hundred": {hundred, 50.5, 99, 1, 100},
		"none":    {nil, math.NaN(), math.NaN(), math.NaN(), math.NaN()},
	} {
		t.Run(name, func(t *testing.T) {
			got := [4]float64{c.series.Median(), c.series.Quantile(0.99), c.series.Min(), c.series.Max()}
			want := [4]float64{c.median, c.p99, c.min, c.max}
			for i := range got {
				if got[i] != want[i] && !(math.IsNaN(got[i]) && math.IsNaN(want[i])) {
					t.Errorf("median, p99, least and most are %v, want %v", got, want)
				}
			}
		})
	}
}
