package tailfin

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/qlog"
)

// TestYield looks at which packets end a request, and at the rest after a yield that
// others have made long.
func TestYield(t *testing.T) {
	fin := []qlog.Frame{{Frame: &qlog.AckFrame{}}, {Frame: &qlog.StreamFrame{Length: 10, Fin: true}}}
	synctest.Test(t, func(t *testing.T) {
		at := func(what string, y *yielder, frames []qlog.Frame, want int) {
			t.Helper()
			y.received(frames)
			if y.yields != want {
				t.Errorf("%s: %d yields, want %d", what, y.yields, want)
			}
		}
		var y yielder
		at("no end", &y, []qlog.Frame{{Frame: &qlog.StreamFrame{Length: 10}}}, 0)
		at("an end", &y, fin, 1)
		at("another", &y, fin, 2)
		y.took(time.Now(), maxYield)
		y.sent()
		at("after a short one", &y, fin, 3)
		y.took(time.Now(), 2*maxYield)
		y.sent()
		at("after a long one", &y, fin, 3)
		time.Sleep(2 * maxYield * yieldRest)
		at("still resting", &y, fin, 3)
		time.Sleep(2 * maxYield)
		at("after the rest", &y, fin, 4)

		// An acknowledgement must not wait for one handler after the other.
		for range 3 {
			y.took(time.Now(), maxYield/2)
		}
		at("after some that were long together", &y, fin, 4)
		time.Sleep(time.Hour)
		at("much later", &y, fin, 4)
		y.sent()
		at("after a packet was sent", &y, fin, 5)
	})
}
