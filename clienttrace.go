package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A clientTrace calls the hooks of a net/http/httptrace.ClientTrace that are set.
type clientTrace struct{ hooks *httptrace.ClientTrace }

// noHooks is the trace of a request without one.
var noHooks = &httptrace.ClientTrace{}

func traceOf(ctx context.Context) clientTrace {
	if hooks := httptrace.ContextClientTrace(ctx); hooks != nil {
		return clientTrace{hooks}
	}
	return clientTrace{noHooks}
}

func (t clientTrace) getConn(hostPort string) {
	if f := t.hooks.GetConn; f != nil {
		f(hostPort)
	}
}

// gotConn reports a connection with the stream that was just opened on it.
func (t clientTrace) gotConn(c *clientConn, str *quic.Stream) {
	f := t.hooks.GotConn
	if f == nil {
		return
	}
	info := httptrace.GotConnInfo{Conn: tracedConn{c.h3.quic}, Reused: str.StreamID() != 0}
	if info.Reused {
		info.IdleTime, info.WasIdle = c.idleTime()
	}
	f(info)
}

// putIdleConn reports the end of a response, and with it of the request's use of
// its connection.
func (t clientTrace) putIdleConn(end error, usable bool) {
	f := t.hooks.PutIdleConn
	switch {
	case f == nil:
	case !errors.Is(end, io.EOF):
		f(end)
	case !usable:
		f(errConnClosing)
	default:
		f(nil)
	}
}

var errConnClosing = errors.New("tailfin: the connection takes no more requests")

func (t clientTrace) dnsStart(info httptrace.DNSStartInfo) {
	if f := t.hooks.DNSStart; f != nil {
		f(info)
	}
}

func (t clientTrace) dnsDone(info httptrace.DNSDoneInfo) {
	if f := t.hooks.DNSDone; f != nil {
		f(info)
	}
}

func (t clientTrace) connectStart(addr string) {
	if f := t.hooks.ConnectStart; f != nil {
		f("udp", addr)
	}
	if f := t.hooks.TLSHandshakeStart; f != nil {
		f()
	}
}

func (t clientTrace) connectDone(addr string, conn *quic.Conn, err error) {
	if f := t.hooks.TLSHandshakeDone; f != nil {
		var state tls.ConnectionState
		if conn != nil {
			state = conn.ConnectionState().TLS
		}
		f(state, err)
	}
	if f := t.hooks.ConnectDone; f != nil {
		f("udp", addr, err)
	}
}

func (t clientTrace) wroteFields(fields []h3frame.Field) {
	f := t.hooks.WroteHeaderField
	if f == nil {
		return
	}
	for _, field := range fields {
		f(field.Name, []string{field.Value})
	}
}

func (t clientTrace) wroteHeaders() {
	if f := t.hooks.WroteHeaders; f != nil {
		f()
	}
}

func (t clientTrace) wroteRequest(err error) {
	if f := t.hooks.WroteRequest; f != nil {
		f(httptrace.WroteRequestInfo{Err: err})
	}
}

func (t clientTrace) wait100Continue() {
	if f := t.hooks.Wait100Continue; f != nil {
		f()
	}
}

func (t clientTrace) gotFirstResponseByte() {
	if f := t.hooks.GotFirstResponseByte; f != nil {
		f()
	}
}

func (t clientTrace) got100Continue() {
	if f := t.hooks.Got100Continue; f != nil {
		f()
	}
}

// got1xx returns the error with which the hook ends the request.
func (t clientTrace) got1xx(status int, header http.Header) error {
	if f := t.hooks.Got1xxResponse; f != nil {
		return f(status, textproto.MIMEHeader(header))
	}
	return nil
}

// A tracedConn is what a trace sees of a QUIC connection: addresses, statistics. It is a
// net.Conn as GotConnInfo asks for one, and refuses everything else.
type tracedConn struct{ quic *quic.Conn }

var _ net.Conn = tracedConn{}

var errTracedConn = errors.New("tailfin: a QUIC connection is no byte stream")

func (c tracedConn) Read([]byte) (int, error)         { return 0, errTracedConn }
func (c tracedConn) Write([]byte) (int, error)        { return 0, errTracedConn }
func (c tracedConn) Close() error                     { return errTracedConn }
func (c tracedConn) LocalAddr() net.Addr              { return c.quic.LocalAddr() }
func (c tracedConn) RemoteAddr() net.Addr             { return c.quic.RemoteAddr() }
func (c tracedConn) SetDeadline(time.Time) error      { return errTracedConn }
func (c tracedConn) SetReadDeadline(time.Time) error  { return errTracedConn }
func (c tracedConn) SetWriteDeadline(time.Time) error { return errTracedConn }

// ConnectionStats returns what QUIC has measured and counted.
func (c tracedConn) ConnectionStats() quic.ConnectionStats { return c.quic.ConnectionStats() }
