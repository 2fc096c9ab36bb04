package bench

import (
	"math"
	"slices"
)

// Series are the samples of one figure.
type Series []float64

// Quantile is the smallest sample that is at least as large as a share q of all; NaN where there is none.
func (s Series) Quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[max(0, int(math.Ceil(q*float64(len(s))))-1)]
}

// Median is the middle sample, or the mean of the two; NaN where there is none.
func (s Series) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	return (sorted[(len(s)-1)/2] + sorted[len(s)/2]) / 2
}

// Min is the smallest sample, NaN where there is none.
func (s Series) Min() float64 { return s.Quantile(0) }

// Max is the largest sample, NaN where there is none.
func (s Series) Max() float64 { return s.Quantile(1) }
