package tailfin

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// quicReceiver is the receiving side of a QUIC stream: *quic.Stream or
// *quic.ReceiveStream.
type quicReceiver interface {
	StreamID() quic.StreamID
	Read(p []byte) (int, error)
	CancelRead(code quic.StreamErrorCode)
	SetReadDeadline(t time.Time) error
}

// spillChunk is the most that a drain reads at a time, in bytes.
const spillChunk = 256 << 10

// A recvStream is a quicReceiver whose received bytes survive the close of the
// connection: what the barrier drained comes first, the close error after it.
//
// One goroutine reads it; the barrier drains it from the connection's run loop.
// The two exclude each other by turn, not by a mutex, because the drain must be
// able to give up at a deadline.
type recvStream struct {
	src  quicReceiver
	done func() // tells the barrier that nothing more is wanted; called once or more

	turn chan struct{} // capacity 1; holding the element means owning the fields below

	spill []byte // drained and not yet read
	end   error  // what ended the stream, met by Read or by the drain; io.EOF is FIN

	deadlines deadlines // of the reader and of a drain

	offset    atomic.Int64 // bytes taken from src; written in turn, read by the barrier
	finished  atomic.Bool  // FIN was taken from src, so the message arrived whole
	cancelled atomic.Bool  // CancelRead was called
}

func newRecvStream(src quicReceiver, done func()) *recvStream {
	return &recvStream{src: src, done: done, turn: make(chan struct{}, 1)}
}

// Read returns stream bytes in order. It returns io.EOF after the FIN, a
// *quic.StreamError after a reset, and the connection's close error only after
// everything that QUIC had received before the close.
func (s *recvStream) Read(p []byte) (int, error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()

	if len(s.spill) > 0 && !s.cancelled.Load() {
		if s.deadlines.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		n := copy(p, s.spill)
		s.spill = s.spill[n:]
		if len(s.spill) == 0 {
			s.spill = nil // free the drained bytes as soon as they are read
		}
		return n, nil
	}
	if s.end != nil {
		return 0, s.end
	}
	n, err := s.src.Read(p)
	s.took(n, err)
	return n, err
}

// took records the result of a read from src. The caller has the turn.
func (s *recvStream) took(n int, err error) {
	s.offset.Add(int64(n))
	if err == nil || isContextOrDeadline(err) {
		return
	}
	s.end = err
	s.finished.Store(errors.Is(err, io.EOF))
	s.done()
}

// CancelRead asks the peer to stop sending (RFC 9000 §3.5) and discards what
// is buffered. After the FIN was taken it changes nothing for the peer.
func (s *recvStream) CancelRead(code h3frame.ErrorCode) {
	s.cancelled.Store(true)
	s.src.CancelRead(quic.StreamErrorCode(code))
	s.done()
}

// SetReadDeadline makes reads after t fail with an error that matches
// os.ErrDeadlineExceeded, also one that waits now. The zero value means never.
// A later deadline lets reads go on where they stopped.
func (s *recvStream) SetReadDeadline(t time.Time) error { return s.deadlines.set(s.src, t) }

// drain moves what has arrived from src to the spill: the bytes below
// contiguous and, if ended, the FIN after them. It reports false if the
// deadline came first.
//
// It runs on the connection's run loop. A reader that holds the turn is inside
// src.Read with data to return, so it gives the turn back without our help.
func (s *recvStream) drain(contiguous int64, ended bool, deadline time.Time) bool {
	select {
	case s.turn <- struct{}{}:
	default:
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		select {
		case s.turn <- struct{}{}:
		case <-timer.C:
			return false
		}
	}
	defer func() { <-s.turn }()

	// A past read deadline would hide buffered data (quic-go v0.65.0 checks it
	// first), and none at all could block the run loop for good.
	s.deadlines.lend(s.src, deadline)
	defer s.deadlines.giveBack(s.src)
	for s.end == nil && !s.cancelled.Load() {
		missing := contiguous - s.offset.Load()
		if missing <= 0 && !ended {
			break
		}
		// One byte of room at least: a FIN without data is read by it.
		room := int(min(max(missing, 1), spillChunk))
		start := len(s.spill)
		s.spill = append(s.spill, make([]byte, room)...)
		n, err := s.src.Read(s.spill[start:])
		s.spill = s.spill[:start+n]
		s.took(n, err)
		if err != nil && isContextOrDeadline(err) {
			return false
		}
	}
	return true
}

// deadlines keep apart the deadline that the reader has set, one for the next bytes
// of a body, and the one that a drain needs on the same stream while it lasts.
type deadlines struct {
	mu     sync.Mutex
	reader time.Time
	idle   time.Time
	lent   bool // a drain's deadline is on the stream; the others come back after it
}

// first is the earlier of the reader's and the idle one. The caller holds mu.
func (d *deadlines) first() time.Time {
	if d.reader.IsZero() || !d.idle.IsZero() && d.idle.Before(d.reader) {
		return d.idle
	}
	return d.reader
}

// apply puts the first on the stream, unless a drain has it. The caller holds mu.
func (d *deadlines) apply(src quicReceiver) error {
	if d.lent {
		return nil
	}
	return src.SetReadDeadline(d.first())
}

func (d *deadlines) set(src quicReceiver, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reader = t
	return d.apply(src)
}

// setIdle sets the deadline for the next bytes. The zero value is none.
func (d *deadlines) setIdle(src quicReceiver, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = t
	_ = d.apply(src)
}

// idled tells that it is the idle deadline that has passed, and not the reader's.
func (d *deadlines) idled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.first()
	return !first.IsZero() && first.Equal(d.idle) && !time.Now().Before(first)
}

func (d *deadlines) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.first()
	return !first.IsZero() && !time.Now().Before(first)
}

func (d *deadlines) lend(src quicReceiver, drain time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lent = true
	_ = src.SetReadDeadline(drain)
}

func (d *deadlines) giveBack(src quicReceiver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lent = false
	_ = d.apply(src)
}
