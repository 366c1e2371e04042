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
	authority, err := checkRequest(req)
	if err != nil {
		closeRequestBody(req)
		return err
	}
	ctx := req.Context()
	opts := t.drain()
	opts.disabled = false // the tracer is what tells that the FIN was sent
	c, err := t.dial(ctx, authority, opts)
	if err != nil {
		closeRequestBody(req)
		return err
	}
	defer c.close()

	str, err := c.h3.quic.OpenStreamSync(ctx)
	if err != nil {
		closeRequestBody(req)
		return classify(err, Progress{Phase: PhaseBeforeWire, RetrySafe: true})
	}
	s := &clientStream{conn: c, quic: str, ctx: ctx, req: req, bodyErr: make(chan error, 1)}
	s.src = c.responseSource(c.h3.barrier.adopt(str), req)
	defer s.src.release()
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()

	sent := c.h3.barrier.watchEnd(str.StreamID())
	if err := s.send(req, requestHead(req)); err != nil {
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
		return context.Cause(ctx)
	}
}
