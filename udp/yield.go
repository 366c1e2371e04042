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
// a turn as well. The reader then goes on for long before it yields again, since it
// would lose datagrams if it had to wait for each few.
type yielder struct {
	datagrams int // delivered since the last yield; less than 0 after a long one
}

const (
	// yieldAfter is how many datagrams are delivered without a yield: three copies of
	// them are in the caches, the kernel's, the reader's, and that of the stream.
	yieldAfter = 32
	// maxYield is how long the goroutines of so many are at work at most, and after a
	// longer one there are yieldRest datagrams more.
	maxYield  = time.Millisecond
	yieldRest = 4096
)

// delivered counts datagrams.
func (y *yielder) delivered(n int) { y.datagrams += n }

// turn lets others run, if it is time to and no loss.
func (y *yielder) turn() {
	if y.datagrams < yieldAfter {
		return
	}
	y.datagrams = 0
	began := time.Now()
	runtime.Gosched()
	if time.Since(began) > maxYield {
		y.datagrams = -yieldRest
	}
}

// allow says that the queue is empty, and that the reader is about to sleep.
func (y *yielder) allow() { *y = yielder{} }
