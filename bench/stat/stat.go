// Package stat has the little statistics that benchmarks in pairs need.
package stat

import (
	"math"
	"slices"
)

// Median of some values; NaN of none.
func Median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// MedianOf is the median of what f makes of each run.
func MedianOf[R any](runs []R, f func(R) float64) float64 {
	list := make([]float64, 0, len(runs))
	for _, r := range runs {
		list = append(list, f(r))
	}
	return Median(list)
}

// A Ratio is of one cost to another, over rounds.
type Ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// RatioOf is a's cost over b's, run by run; nil if there is no round in which both
// have one.
func RatioOf[R any](a, b []R, of func(R) float64) *Ratio {
	var list []float64
	for i := range min(len(a), len(b)) {
		if x, y := of(a[i]), of(b[i]); x > 0 && y > 0 {
			list = append(list, x/y)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &Ratio{Median(list), slices.Min(list), slices.Max(list)}
}
