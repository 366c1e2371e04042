package tailfin

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quic-go/quic-go"
)

// A requestContext is the context of a request at a server: it ends with a cause when
// the client gives the request up, or closes before all of it has arrived, and when the
// handler has returned.
//
// Most handlers never look at it, and watching a stream costs more than all else that
// a context does. It watches from the first use on: until then it is the connection's
// values and a stream that it can ask.
type requestContext struct {
	context.Context // of the values; it never ends
	str             acceptedStream

	mu    sync.Mutex
	full  context.Context // what it is from the first use on; nil before
	end   context.CancelCauseFunc
	stop  func() bool // ends the watch
	ended bool        // by finish
}

var (
	_ context.Context = (*requestContext)(nil)
	_ fmt.Stringer    = (*requestContext)(nil)
)

// Done is context.Context's.
func (c *requestContext) Done() <-chan struct{} { return c.watched().Done() }

// Err is context.Context's.
func (c *requestContext) Err() error {
	if full := c.used(); full != nil {
		return full.Err()
	}
	return nil
}

// Value is context.Context's. context.Cause and the contexts derived from this one find
// the cancellation by it.
func (c *requestContext) Value(key any) any {
	if full := c.used(); full != nil {
		return full.Value(key)
	}
	return c.Context.Value(key)
}

// String is for those who print a context: by reflection they would race with its use.
func (c *requestContext) String() string { return "tailfin.requestContext" }

// used returns the watched context if there is one, or if there has to be one since it
// has ended already, else nil.
func (c *requestContext) used() context.Context {
	c.mu.Lock()
	full, ended := c.full, c.ended
	c.mu.Unlock()
	if full == nil && (ended || c.givenUp() != nil) {
		return c.watched()
	}
	return full
}

// watched begins to watch, once.
func (c *requestContext) watched() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full != nil {
		return c.full
	}
	full, end := context.WithCancelCause(c.Context)
	c.full, c.end = full, end
	switch cause := c.givenUp(); {
	case c.ended:
		end(nil)
	case cause != nil:
		end(cause)
	default:
		c.stop = context.AfterFunc(c.str.quic.Context(), func() {
			if cause := c.givenUp(); cause != nil {
				end(cause)
			}
		})
	}
	return full
}

// givenUp is why the client will get no answer, nil if it may still, or if all of the
// request is here and may be acted on all the same.
func (c *requestContext) givenUp() error {
	sending := c.str.quic.Context()
	if sending.Err() == nil {
		return nil
	}
	cause := context.Cause(sending)
	if errors.Is(cause, quic.ErrStreamClosed) {
		return nil // by our own FIN: the handler has returned
	}
	whole := c.str.recv.finished.Load()
	var stopped *quic.StreamError
	if errors.As(cause, &stopped) || !whole {
		return classify(cause, Progress{Phase: PhaseBody, FINSeen: whole})
	}
	return nil
}

// finish ends it when the handler has returned.
func (c *requestContext) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.full == nil {
		return
	}
	if c.stop != nil {
		c.stop()
	}
	c.end(nil)
}
