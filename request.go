package tailfin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// protoHTTP3 is http.Request.Proto of every request but an extended CONNECT.
const protoHTTP3 = "HTTP/3.0"

// newRequest makes the http.Request of a header section.
func (c *serverConn) newRequest(head *h3frame.RequestHead, src *messageSource) (*http.Request, *messageBody, error) {
	if head.Protocol != "" && !c.server.EnableExtendedConnect {
		// Without the setting there is no such pseudo-header (RFC 9220 §3).
		return nil, nil, h3frame.Malformed(":protocol %q, which SETTINGS did not allow", head.Protocol)
	}
	req := &http.Request{
		Method:     head.Method,
		Proto:      cmp.Or(head.Protocol, protoHTTP3),
		ProtoMajor: 3,
		Header:     head.Header,
		Host:       head.Authority,
		RequestURI: head.Path,
		RemoteAddr: c.h3.quic.RemoteAddr().String(),
		TLS:        c.tlsState(),
	}
	if head.Method == http.MethodConnect && head.Protocol == "" {
		req.URL = &url.URL{Host: head.Authority}
		req.RequestURI = head.Authority
	} else {
		u, err := url.ParseRequestURI(head.Path)
		if err != nil {
			return nil, nil, h3frame.Malformed(":path %q is no request target", head.Path)
		}
		req.URL = u
	}
	req.ContentLength = src.msg.ContentLength()
	if req.ContentLength < 0 && src.ended() {
		req.ContentLength = 0 // the FIN came with the head: there is no body, and proxies like to know
	}
	req.Trailer = announcedTrailer(head.Header)

	body := newMessageBody(src, req.Trailer, h3frame.ErrCodeNoError)
	if head.Method != http.MethodConnect {
		body.idle = c.server.BodyIdleTimeout
	}
	body.onEnd = func(err error) {
		if errors.Is(err, errBodyTimeout) {
			c.bodyTimedOut()
		}
		var frameErr *h3frame.FrameError
		if errors.As(err, &frameErr) && frameErr.ConnectionError() {
			go c.h3.fail(frameErr)
		}
	}
	req.Body = body
	return req, body, nil
}

func (c *serverConn) tlsState() *tls.ConnectionState {
	state := c.h3.quic.ConnectionState().TLS
	return &state
}

// requestContext makes the context of a request: it ends with a cause when the
// client gives the request up, or closes before all of it has arrived.
func (c *serverConn) requestContext(str acceptedStream) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.ctx))
	sending := str.quic.Context()
	stop := context.AfterFunc(sending, func() {
		cause := context.Cause(sending)
		if errors.Is(cause, quic.ErrStreamClosed) {
			return // by our own FIN: the handler has returned
		}
		var stopped *quic.StreamError
		if errors.As(cause, &stopped) || !str.recv.finished.Load() {
			cancel(classify(cause, Progress{Phase: PhaseBody, FINSeen: str.recv.finished.Load()}))
		}
	})
	return ctx, func(cause error) {
		stop()
		cancel(cause)
	}
}

// announcedTrailer makes the trailer map that a Trailer field announces, as
// net/http does: the names, with nil values until the body has ended.
func announcedTrailer(h http.Header) http.Header {
	trailer := make(http.Header)
	for _, line := range h.Values("Trailer") {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name != "" {
				trailer[name] = nil
			}
		}
	}
	h.Del("Trailer")
	return trailer
}
