package stat

import "math"

// z95 is the quantile of the normal distribution for an interval of 95 %.
const z95 = 1.959963984540054

// Wilson is the share of hits in n trials, with its 95 % interval by Wilson's score,
// which holds for shares of 0 and 1 too. Without trials all shares are possible.
func Wilson(hits, n int) (share, low, high float64) {
	if n == 0 {
		return 0, 0, 1
	}
	trials := float64(n)
	share = float64(hits) / trials
	center := share + z95*z95/(2*trials)
	half := z95 * math.Sqrt(share*(1-share)/trials+z95*z95/(4*trials*trials))
	scale := 1 + z95*z95/trials
	return share, max(0, (center-half)/scale), min(1, (center+half)/scale)
}
