package tailfin

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// protoHTTP3 is http.Request.Proto of every request but an extended CONNECT.
const protoHTTP3 = "HTTP/3.0"

// newRequest makes the http.Request of a header section.
func (c *serverConn) newRequest(x *serverStream, head *h3frame.RequestHead) (*http.Request, error) {
	if head.Protocol != "" && !c.server.EnableExtendedConnect {
		// Without the setting there is no such pseudo-header (RFC 9220 §3).
		return nil, h3frame.Malformed(":protocol %q, which SETTINGS did not allow", head.Protocol)
	}
	req := http.Request{ // on the stack: WithContext copies it
		Method:     head.Method,
		Proto:      cmp.Or(head.Protocol, protoHTTP3),
		ProtoMajor: 3,
		Header:     head.Header,
		Host:       head.Authority,
		RequestURI: head.Path,
		RemoteAddr: c.remoteAddr(),
		TLS:        c.tlsState(),
	}
	if head.Method == http.MethodConnect && head.Protocol == "" {
		req.URL = &url.URL{Host: head.Authority}
		req.RequestURI = head.Authority
	} else {
		u, err := url.ParseRequestURI(head.Path)
		if err != nil {
			return nil, h3frame.Malformed(":path %q is no request target", head.Path)
		}
		req.URL = u
	}
	req.ContentLength = x.src.msg.ContentLength()
	if req.ContentLength < 0 && x.src.ended() {
		req.ContentLength = 0 // the FIN came with the head: there is no body, and proxies like to know
	}
	req.Trailer = announcedTrailer(head.Header)

	x.body = messageBody{src: &x.src, trailer: req.Trailer, giveUp: h3frame.ErrCodeNoError, onEnd: c.onBodyEnd}
	if head.Method != http.MethodConnect {
		x.body.idle = c.server.BodyIdleTimeout
	}
	req.Body = &x.body
	x.ctx.Context, x.ctx.str = c.values, x.str
	return req.WithContext(&x.ctx), nil
}

// bodyEnded is told how each request body ended.
func (c *serverConn) bodyEnded(err error) {
	if err == io.EOF { //nolint:errorlint // as messageBody returns it, and the most frequent
		return
	}
	if errors.Is(err, errBodyTimeout) {
		c.bodyTimedOut()
	}
	var frameErr *h3frame.FrameError
	if errors.As(err, &frameErr) && frameErr.ConnectionError() {
		go c.h3.fail(frameErr)
	}
}

// tlsState is what requests say of TLS: one for all, as nobody may change it, once it
// does not change by itself any more.
func (c *serverConn) tlsState() *tls.ConnectionState {
	if state := c.tls.Load(); state != nil {
		return state
	}
	state := c.h3.quic.ConnectionState().TLS
	if state.HandshakeComplete {
		c.tls.Store(&state)
	}
	return &state
}

// A peerAddr is an address of the client, which may move, and its text.
type peerAddr struct {
	udp  *net.UDPAddr
	text string
}

// remoteAddr is the address of the client as text.
func (c *serverConn) remoteAddr() string {
	addr := c.h3.quic.RemoteAddr()
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return addr.String()
	}
	last := c.peer.Load()
	if last == nil || last.udp != udp {
		last = &peerAddr{udp, udp.String()}
		c.peer.Store(last)
	}
	return last.text
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
