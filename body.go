package tailfin

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// ErrBodyClosed is returned by Read on a body that was closed.
var ErrBodyClosed = errors.New("tailfin: read on closed body")

// A messageBody is the body of a request at a server or of a response at a
// client: the content of one message, then its trailer section. It returns the
// same error ever after.
type messageBody struct {
	src     *messageSource
	trailer http.Header       // filled at the trailer section; the message's own map
	onRead  func()            // called before the first read; may be nil
	onEnd   func(error)       // called once, with io.EOF or what ended the body; may be nil
	giveUp  h3frame.ErrorCode // what Close tells the peer
	idle    time.Duration     // the longest wait for a byte, after which the body fails; 0 is any

	mu      sync.Mutex
	pending []byte // of the last piece, by reference into the decoder's buffer
	read    int64  // body bytes handed to the caller
	started bool
	err     error // sticky

	closed atomic.Bool
}

func newMessageBody(src *messageSource, trailer http.Header, giveUp h3frame.ErrorCode) *messageBody {
	return &messageBody{src: src, trailer: trailer, giveUp: giveUp}
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
	if b.closed.Load() {
		return b.fail(ErrBodyClosed)
	}
	if b.idle > 0 {
		b.src.recv.deadlines.setIdle(b.src.recv.src, time.Now().Add(b.idle))
	}
	ev, err := b.src.next()
	switch {
	case errors.Is(err, io.EOF):
		return b.fail(io.EOF)
	case err != nil:
		return b.broken(err)
	}
	b.pending = ev.Body
	if len(ev.Trailer) > 0 {
		maps.Copy(b.trailer, ev.Trailer)
	}
	return nil
}

// broken handles an end that leaves the message unfinished.
func (b *messageBody) broken(err error) error {
	if isContextOrDeadline(err) && b.idle > 0 && b.src.recv.deadlines.idled() {
		b.src.recv.CancelRead(h3frame.ErrCodeRequestCancelled)
		return b.fail(errBodyTimeout)
	}
	if isContextOrDeadline(err) {
		return err // not an end: the caller may extend the deadline and go on
	}
	if b.closed.Load() {
		return b.fail(ErrBodyClosed)
	}
	got, want := b.src.msg.Received(), b.src.msg.ContentLength()
	typed := classify(err, b.progress())
	var (
		frameErr *h3frame.FrameError
		graceful *GracefulClose
	)
	short := got < want
	if errors.As(err, &frameErr) {
		// A FIN before the length is met is the one violation that cuts a body short.
		short = short && frameErr.Code == h3frame.ErrCodeMessage && errors.Is(err, io.ErrUnexpectedEOF)
	}
	if short || errors.As(typed, &graceful) {
		// Closing without an error is no excuse for half a body.
		return b.fail(&Truncated{Progress: b.progress(), Got: got, Want: want, Err: typed})
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
	}
}

// Close gives up what is unread. It may be called during a Read, which it ends.
func (b *messageBody) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.src.recv.CancelRead(b.giveUp)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = nil
	if b.err == nil {
		_ = b.fail(ErrBodyClosed)
	}
	return nil
}
