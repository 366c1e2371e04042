package udp

import (
	"runtime"
	"time"
)

// A yielder lets the goroutines that take datagrams on run between the receives of a
// socket whose queue does not get empty. They find the last datagrams in the processor's
// caches then; a reader that first brought all of them in would have each read from
// memory again. On one processor that was worth a seventh of what an upload costs.
//
// Where processors are short a yield may be long, as others than those goroutines have
// a turn as well. The reader then empties the queue before it yields again, since it
// would lose datagrams if it had to wait for each few.
type yielder struct {
	tired bool
}

// maxYield is how long the goroutines of a few tens of datagrams are at work at most.
const maxYield = time.Millisecond

// now lets others run, if that is no loss.
func (y *yielder) now() {
	if y.tired {
		return
	}
	began := time.Now()
	runtime.Gosched()
	y.tired = time.Since(began) > maxYield
}

// allow says that the queue is empty.
func (y *yielder) allow() { y.tired = false }
