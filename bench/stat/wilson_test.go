package stat

import (
	"math"
	"testing"
)

// TestWilson compares with values of R's prop.test(x, n, correct = FALSE).
func TestWilson(t *testing.T) {
	for _, test := range []struct {
		hits, n          int
		share, low, high float64
	}{
		{0, 0, 0, 0, 1},
		{0, 10, 0, 0, 0.2775328},
		{10, 10, 1, 0.7224672, 1},
		{5, 10, 0.5, 0.2365931, 0.7634069},
		{0, 5000, 0, 0, 0.0007677},
	} {
		share, low, high := Wilson(test.hits, test.n)
		if share != test.share || math.Abs(low-test.low) > 1e-6 || math.Abs(high-test.high) > 1e-6 {
			t.Errorf("%d of %d: %v (%v–%v)", test.hits, test.n, share, low, high)
		}
	}
}
