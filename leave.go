package tailfin

import (
	"context"
	"errors"
	"net/http"

	"github.com/quic-go/quic-go"
)

// SendAndClose sends one request on a connection of its own and closes the
// connection with H3_NO_ERROR as soon as the packet with the last byte and the
// FIN is on its way: what a client does that reports and leaves. It waits for
// no answer, and for no acknowledgement, so that a nil error means sent and
// not received. RFC 9000 §10.2 lets the peer drop what was lost on the way.
func (t *Transport) SendAndClose(req *http.Request) error {
	try, err := t.newTry(req)
	if err != nil {
		closeRequestBody(req)
		return err
	}
	defer try.stopBody()
	ctx := req.Context()
	opts := t.drain()
	opts.disabled = false // the tracer is what tells that the FIN was sent
	c, err := t.dial(ctx, try.authority, opts, false)
	if err != nil {
		return err
	}
	defer c.close()

	c.reserve(0)
	str, err := c.open(ctx, try.need)
	if err != nil {
		return err
	}
	s := c.newClientStream(ctx, str, try)
	defer s.src.release()
	defer s.end()

	sent := c.h3.barrier.watchEnd(str.StreamID())
	if err := s.send(); err != nil {
		return s.explain(err)
	}
	select {
	case <-sent:
		var refused *quic.StreamError
		if cause := context.Cause(str.Context()); errors.As(cause, &refused) {
			return classify(cause, Progress{Phase: PhaseHeaders})
		}
		return nil
	case <-c.h3.quic.Context().Done():
		return classify(context.Cause(c.h3.quic.Context()), Progress{Phase: PhaseHeaders})
	case <-ctx.Done():
		return cancelled(ctx, s.progress())
	}
}
