package tailfin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// ErrBodyClosed is returned by Read on a body that was closed.
var ErrBodyClosed = errors.New("tailfin: read on closed body")

// A messageBody is the body of a request at a server or of a response at a
// client: the DATA frames of one stream, then the trailer section. It enforces
// Content-Length (RFC 9114 §4.1.2) and returns the same error ever after.
type messageBody struct {
	src      *frameSource
	want     int64             // Content-Length, -1 if there is none
	trailer  http.Header       // filled at the trailer section; the message's own map
	maxField int               // bound of the trailer section, in bytes as RFC 9114 §4.2.2 counts
	onRead   func()            // called before the first read; may be nil
	onEnd    func(error)       // called once, with io.EOF or what ended the body; may be nil
	refused  func() bool       // tells that the peer's GOAWAY covers the request; may be nil
	giveUp   h3frame.ErrorCode // what Close tells the peer

	mu      sync.Mutex
	pending []byte // of the last DATA piece, by reference into the decoder's buffer
	got     int64  // body bytes decoded
	read    int64  // body bytes handed to the caller
	started bool
	err     error // sticky

	closeOnce sync.Once
	closed    chan struct{}
}

func newMessageBody(src *frameSource, want int64, giveUp h3frame.ErrorCode) *messageBody {
	return &messageBody{src: src, want: want, giveUp: giveUp, maxField: defaultMaxHeaderBytes, closed: make(chan struct{})}
}

// Read returns body bytes. Its error at the end is io.EOF for a whole body,
// *Truncated for one that was cut short, else one of this package's types.
func (b *messageBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started {
		b.started = true
		if b.onRead != nil {
			b.onRead()
		}
	}
	for len(b.pending) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	b.read += int64(n)
	return n, nil
}

// fill gets the next piece of the body. The caller holds mu.
func (b *messageBody) fill() error {
	select {
	case <-b.closed:
		return b.fail(ErrBodyClosed)
	default:
	}
	f, err := b.src.next()
	switch {
	case errors.Is(err, io.EOF):
		if b.want >= 0 && b.got < b.want {
			return b.fail(&Truncated{Progress: b.progress(), Got: b.got, Want: b.want, Err: io.ErrUnexpectedEOF})
		}
		return b.fail(io.EOF)
	case err != nil:
		return b.broken(err)
	case f.Type == h3frame.FrameData:
		b.got += int64(len(f.Payload))
		if b.want >= 0 && b.got > b.want {
			return b.broken(&h3frame.FrameError{
				Code: h3frame.ErrCodeMessage, Type: f.Type,
				Reason: fmt.Sprintf("body exceeds its Content-Length of %d bytes", b.want),
			})
		}
		b.pending = f.Payload
		return nil
	case f.Type == h3frame.FrameHeaders:
		fields, err := h3frame.DecodeFieldSection(f.Payload, b.maxField)
		if err != nil {
			return b.broken(err)
		}
		trailer, err := h3frame.ParseTrailerFields(fields)
		if err != nil {
			return b.broken(err)
		}
		for name, values := range trailer {
			b.trailer[name] = values
		}
		return nil
	}
	return nil
}

// broken handles an end of the stream that is not a FIN. A body whose
// Content-Length is met is whole all the same.
func (b *messageBody) broken(err error) error {
	if isContextOrDeadline(err) {
		return err // not an end: the caller may extend the deadline and go on
	}
	select {
	case <-b.closed:
		return b.fail(ErrBodyClosed)
	default:
	}
	var frameErr *h3frame.FrameError
	if errors.As(err, &frameErr) {
		return b.fail(classify(err, b.progress()))
	}
	if b.want >= 0 && b.got == b.want {
		var reset *quic.StreamError
		if !errors.As(err, &reset) {
			return b.fail(io.EOF)
		}
	}
	typed := classify(err, b.progress())
	var graceful *GracefulClose
	if errors.As(typed, &graceful) || b.want > 0 && b.got < b.want {
		// Closing without an error is no excuse for half a body.
		return b.fail(&Truncated{Progress: b.progress(), Got: b.got, Want: b.want, Err: typed})
	}
	return b.fail(typed)
}

// fail makes err the answer to every later read. The caller holds mu.
func (b *messageBody) fail(err error) error {
	b.err = err
	b.src.release()
	if b.onEnd != nil {
		b.onEnd(err)
	}
	return err
}

// progress is what an error says of this message.
func (b *messageBody) progress() Progress {
	return Progress{
		Phase:     PhaseBody,
		Delivered: b.read,
		FINSeen:   b.src.recv.finished.Load(),
		RetrySafe: b.refused != nil && b.refused(),
	}
}

// Close gives up what is unread. It may be called during a Read, which it ends.
func (b *messageBody) Close() error {
	b.closeOnce.Do(func() {
		close(b.closed)
		b.src.recv.CancelRead(b.giveUp)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pending = nil
		if b.err == nil {
			_ = b.fail(ErrBodyClosed)
		}
	})
	return nil
}
