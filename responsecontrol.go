package tailfin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// SetReadDeadline, SetWriteDeadline and EnableFullDuplex are found by
// http.ResponseController. Unlike in HTTP/1 a deadline that has passed ends
// nothing: a later one lets the handler go on where it stopped.

// SetReadDeadline makes reads of the request body after t fail with an error that
// matches os.ErrDeadlineExceeded. The zero value means never.
func (w *responseWriter) SetReadDeadline(t time.Time) error { return w.recv.SetReadDeadline(t) }

// SetWriteDeadline makes writes after t fail with an error that matches
// os.ErrDeadlineExceeded, as soon as they cannot be gathered in memory. What Write
// said it took is sent by a later write or flush. If the handler returns past its
// deadline, what is left is not sent and the stream is reset. The zero value means
// never.
func (w *responseWriter) SetWriteDeadline(t time.Time) error { return w.str.quic.SetWriteDeadline(t) }

// EnableFullDuplex does nothing: in HTTP/3 a handler may always read the request
// while it answers.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// WriteString is Write.
func (w *responseWriter) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// copyBuffers are for ReadFrom: two DATA frames' worth, in bytes, so that io.Copy
// to a ResponseWriter allocates nothing.
var copyBuffers = sync.Pool{New: func() any {
	b := make([]byte, 2*writeBuffer)
	return &b
}}

// ReadFrom writes what r returns until its end, for io.Copy.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	buf, _ := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	// The writer without ReadFrom, lest io.CopyBuffer call this again; and the
	// reader without WriteTo, which would bring memory of its own.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
}

var _ Datagrammer = (*responseWriter)(nil)

// SendDatagram is Datagrammer's.
func (w *responseWriter) SendDatagram(p []byte) error {
	if w.flow == nil {
		return ErrNoDatagrams
	}
	return w.flow.SendDatagram(p)
}

// ReceiveDatagram is Datagrammer's.
func (w *responseWriter) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	if w.flow == nil {
		return nil, ErrNoDatagrams
	}
	return w.flow.ReceiveDatagram(ctx)
}

// unwrapTo finds what w is, or what it wraps, as http.ResponseController does.
func unwrapTo[T any](w http.ResponseWriter) (found T, ok bool) {
	for {
		if found, ok = w.(T); ok {
			return found, true
		}
		wrapper, more := w.(interface{ Unwrap() http.ResponseWriter })
		if !more {
			return found, false
		}
		w = wrapper.Unwrap()
	}
}

// PeerSettings waits for the SETTINGS of the client whose request w answers
// (RFC 9114 §7.2.4), for handlers of extensions. Like http.ResponseController it
// looks through wrappers that have an Unwrap method. Its error matches
// http.ErrNotSupported for a ResponseWriter of another server, and is ctx's or the
// connection's if that ends first.
func PeerSettings(ctx context.Context, w http.ResponseWriter) (h3frame.Settings, error) {
	rw, ok := unwrapTo[*responseWriter](w)
	if !ok {
		return h3frame.Settings{}, fmt.Errorf("tailfin: SETTINGS of a foreign ResponseWriter: %w", http.ErrNotSupported)
	}
	c := rw.conn
	select {
	case <-c.settingsSeen:
		return c.peerSettings(), nil
	case <-ctx.Done():
		return h3frame.Settings{}, context.Cause(ctx)
	case <-c.quic.Context().Done():
		return h3frame.Settings{}, classify(context.Cause(c.quic.Context()), Progress{Phase: PhaseHeaders})
	}
}
