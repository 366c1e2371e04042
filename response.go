package tailfin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// sniffLen is how much of a body http.DetectContentType looks at.
const sniffLen = 512

// A responseWriter answers one request, by the rules of net/http.
type responseWriter struct {
	conn      *h3conn
	recv      *recvStream   // of the same stream, for read deadlines
	flow      *datagramFlow // nil without HTTP datagrams
	isHead    bool          // a HEAD request: the body is counted and not sent
	isConnect bool          // a CONNECT request: after a 2xx the body is a tunnel

	mu      sync.Mutex
	str     sendStream
	header  http.Header   // the handler's; nil until it asks for it
	status  int           // of the final header section; 0 until WriteHeader
	mem     *answerMemory // has what header was at WriteHeader, without trailers; nil before
	typed   bool          // that has a Content-Type
	dated   bool          // a Date
	encoded bool          // a Content-Encoding
	sent    bool          // the final header section was queued for sending
	want    int64         // the declared Content-Length, -1 if there is none
	written int64         // body bytes
	trailer []string      // names that the Trailer field announces
	err     error         // of the stream, sticky
}

var (
	_ http.ResponseWriter = (*responseWriter)(nil)
	_ http.Flusher        = (*responseWriter)(nil)
	_ io.StringWriter     = (*responseWriter)(nil)
	_ io.ReaderFrom       = (*responseWriter)(nil)
)

// init makes w the answer to a request with that method.
func (w *responseWriter) init(conn *h3conn, str acceptedStream, method string) {
	w.conn, w.recv, w.str.quic = conn, str.recv, str.quic
	w.isHead = method == http.MethodHead
	w.isConnect = method == http.MethodConnect
	w.want = -1
}

// Header is http.ResponseWriter's.
func (w *responseWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader sets the status and, as in net/http, freezes the header: what is
// changed later counts for trailers only. A status of 1xx is sent at once and
// may be followed by others (RFC 9114 §4.1). A status without three digits, and
// 101, which HTTP/3 does not have (§4.5), abort the answer.
func (w *responseWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *responseWriter) writeHeader(status int) {
	if w.status != 0 || w.err != nil {
		return
	}
	switch {
	case status == http.StatusSwitchingProtocols, status < http.StatusContinue, status > maxStatus:
		w.err = fmt.Errorf("tailfin: handler set status %d, which HTTP/3 does not have", status)
		return
	case status < http.StatusOK:
		w.interim(h3frame.ResponseHead{Status: status, Header: interimHeader(w.header)})
		return
	}
	w.status = status
	w.freeze()
}

// maxStatus is the last status code of three digits (RFC 9110 §15).
const maxStatus = 999

// interim sends a 1xx header section, at once and ahead of the final one.
func (w *responseWriter) interim(head h3frame.ResponseHead) {
	w.fail(w.str.writeFields(h3frame.ResponseFields(head)))
	if w.err == nil {
		w.fail(w.str.flush())
	}
}

// sendContinue answers "Expect: 100-continue" at the first read of the body.
func (w *responseWriter) sendContinue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status != 0 || w.err != nil {
		return
	}
	w.interim(h3frame.ResponseHead{Status: http.StatusContinue})
}

// fail keeps the error of a stream that is over. A write deadline that passed
// ends nothing, since the handler may extend it and go on.
func (w *responseWriter) fail(err error) {
	if err != nil && !isContextOrDeadline(err) {
		w.err = err
	}
}

// bodyAllowed tells whether a status may have a body (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// tunnels tells an answer that makes the stream a tunnel (RFC 9114 §4.4).
func (w *responseWriter) tunnels() bool {
	return w.isConnect && w.status >= http.StatusOK && w.status < http.StatusMultipleChoices
}

// Write sends body bytes. It returns http.ErrBodyNotAllowed and
// http.ErrContentLength like net/http, an error that matches
// os.ErrDeadlineExceeded after the write deadline, and the error of the stream
// after the client has gone.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if w.want >= 0 && w.written+int64(len(p)) > w.want {
		return 0, http.ErrContentLength
	}
	if w.isHead {
		if w.written == 0 && len(p) > 0 && !w.sent && w.sniffs() {
			w.addType(p)
		}
		w.written += int64(len(p))
		return len(p), nil
	}
	// Gather first: a whole small body gets a Content-Length, see finish.
	if !w.sent && len(w.str.body)+len(p) > writeBuffer {
		w.sendHead(p)
	}
	n, err := w.str.write(p)
	w.written += int64(n)
	w.fail(err)
	return n, err
}

// Flush sends what was written so far.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is Flush for http.ResponseController.
func (w *responseWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.err != nil {
		return w.err
	}
	if !w.sent {
		w.sendHead(nil)
	}
	err := w.str.flush()
	w.fail(err)
	return err
}

// finish sends what is left of the answer, and the FIN.
func (w *responseWriter) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	defer w.giveBack()
	if w.err == nil {
		w.err = w.sendRest()
	}
	if w.err != nil {
		// The client must not take what it got for the whole (RFC 9114 §4.1.2).
		// After a FIN or a reset this changes nothing.
		w.str.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeInternal))
		return w.err
	}
	w.err = errHandlerReturned
	return nil
}

func (w *responseWriter) sendRest() error {
	if !w.sent {
		if w.want < 0 && bodyAllowed(w.status) && !w.tunnels() && (!w.isHead || w.written > 0) {
			w.addField(fieldContentLength, strconv.FormatInt(w.written, 10))
		}
		w.sendHead(nil)
	}
	if w.want >= 0 && w.written < w.want && !w.isHead && bodyAllowed(w.status) {
		return fmt.Errorf("tailfin: handler wrote %d of %d bytes it declared", w.written, w.want)
	}
	if fields := w.trailerFields(); len(fields) > 0 {
		if err := w.str.writeFields(fields); err != nil {
			return err
		}
	}
	return w.str.close()
}

// errHandlerReturned meets a handler that writes after it returned.
var errHandlerReturned = errors.New("tailfin: write after the handler returned")
