package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Readiness is whether the daemon wants uploads. It is not ready, "starting",
// until SetReady.
type Readiness struct {
	mu     sync.Mutex
	ready  bool
	reason string
}

// SetReady says whether uploads are wanted, and if not why, in a few words:
// "draining".
func (r *Readiness) SetReady(ready bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready, r.reason = ready, reason
}

// State is what was set last.
func (r *Readiness) State() (ready bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ready:
		return true, ""
	case r.reason == "":
		return false, "starting"
	}
	return false, r.reason
}

const (
	checkTimeout = time.Second     // for one check of the sink
	checkFresh   = time.Second     // how long its result is taken for true
	checkEvery   = 5 * time.Second // from check to check while nobody asks
)

// A checker asks the sink whether it works, one question at a time, however
// many ask the checker.
type checker struct {
	check          func(context.Context) error
	ctx            context.Context // ends at Close
	work           *sync.WaitGroup
	timeout, fresh time.Duration

	mu      sync.Mutex
	last    checked
	pending chan struct{} // closed when the check at work is over; nil without one
}

// checked is the result of a check.
type checked struct {
	at  time.Time // zero before the first
	err error
}

// known is the last result, without asking.
func (c *checker) known() checked {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// refresh asks, and does not wait.
func (c *checker) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ask()
}

// stop returns when no check can start any more, c.ctx having ended.
func (c *checker) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

// ask starts a check unless one is at work. c.mu is held.
func (c *checker) ask() {
	if c.pending != nil || c.ctx.Err() != nil {
		return
	}
	over := make(chan struct{})
	c.pending = over
	c.work.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
		defer cancel()
		err := c.check(ctx)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v: %w", c.timeout, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.last = checked{time.Now(), err}
		c.pending = nil
		close(over)
	})
}

// result is a result that is no older than c.fresh.
func (c *checker) result(ctx context.Context) error {
	c.mu.Lock()
	if !c.last.at.IsZero() && time.Since(c.last.at) < c.fresh {
		defer c.mu.Unlock()
		return c.last.err
	}
	c.ask()
	pending := c.pending
	c.mu.Unlock()
	if pending == nil {
		return errors.New("closing")
	}
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case <-pending:
		return c.known().err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	// The sink does not heed its context. Those who ask next are told at once.
	err := fmt.Errorf("no answer within %v", c.timeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == pending {
		c.last = checked{time.Now(), err}
	}
	return err
}
