package sink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slotWait is how long an upload waits for one of the files that may be open at
// once, before its client is told to come again.
const slotWait = 30 * time.Second

// slots bound the uploads that are written at once, of which each has a file
// descriptor and a buffer.
type slots chan struct{}

// newSlots has n of them. Zero is half of the file descriptors that the process
// may have, and at most 4096.
func newSlots(n int) slots {
	if n <= 0 {
		n = 4096
		if limit := fileLimit(); limit > 0 {
			n = min(n, max(limit/2, 1))
		}
	}
	return make(slots, n)
}

// fileLimit is how many file descriptors the process may have, 0 if that cannot be told.
func fileLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}

var errNoSlot = errors.New("too many uploads are written at once")

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("%w (%d)", errNoSlot, cap(s))
	}
}

func (s slots) give() { <-s }

// unavailable makes an UnavailableError of what passes by itself: too many open
// files, or no memory for one more.
func unavailable(sink string, err error) error {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, errNoSlot) {
		return &UnavailableError{Sink: sink, Err: err}
	}
	return err
}
