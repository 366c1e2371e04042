package tailfin

import (
	"runtime"
	"time"

	"github.com/quic-go/quic-go/qlog"
)

// The bounds of yields. Those between two packets that are sent take maxYield together,
// so that acknowledgements are not late. One that took longer by itself, since others have much to do, is followed by
// none for yieldRest as long.
const (
	maxYield  = 5 * time.Millisecond // of the 25 ms that QUIC's max_ack_delay permits by default
	yieldRest = 16
)

// A yielder has the run loop of a server's connection let others run after the last
// packet of a request, before it goes on to send. quic-go (v0.65.0) sends an
// acknowledgement as soon as it has read all packets there are, and wakes up whoever
// waits for the stream only then, where there is no idle processor. A handler that is
// quick has its answer ready in time this way and it goes out with the acknowledgement:
// one packet less to build and send for each, and as the answers of several requests
// come together, even less than one.
//
// The zero value is ready. It belongs to the run loop.
type yielder struct {
	notBefore time.Time
	spent     time.Duration // since a packet was sent
	yields    int
}

// received yields if one of the frames ends a request.
func (y *yielder) received(frames []qlog.Frame) {
	for _, f := range frames {
		if f, ok := f.Frame.(*qlog.StreamFrame); ok && f.Fin {
			y.yield()
			return
		}
	}
}

func (y *yielder) yield() {
	start := time.Now()
	if y.spent >= maxYield || start.Before(y.notBefore) {
		return
	}
	y.yields++
	runtime.Gosched()
	y.took(start, time.Since(start))
}

// took learns of a yield.
func (y *yielder) took(start time.Time, d time.Duration) {
	y.spent += d
	if d > maxYield {
		y.notBefore = start.Add((1 + yieldRest) * d)
	}
}

// sent is told of each packet that is sent.
func (y *yielder) sent() { y.spent = 0 }
