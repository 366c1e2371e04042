package tailfin

import (
	"errors"
	"io"
	"math"
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
// The two exclude each other by turn, which the drain never waits for in Lock, because
// it must be able to give up at a deadline.
type recvStream struct {
	src   quicReceiver
	owner *barrier // told that nothing more is wanted, once or more; nil without
	id    quic.StreamID

	turn sync.Mutex // holding it means owning the fields below

	spill []byte // drained and not yet read
	end   error  // what ended the stream, met by Read or by the drain; io.EOF is FIN

	deadlines deadlines // of the reader and of a drain

	spilled  atomic.Int64  // length of the spill, none after CancelRead
	ahead    *atomic.Int64 // sum of spilled over the connection
	offset   atomic.Int64  // bytes taken from src; written in turn, read by the barrier
	finished atomic.Bool   // FIN was taken from src, so the message arrived whole

	reset     atomic.Pointer[quic.StreamError] // by the peer, nil before; see resetBy
	cancelled atomic.Bool                      // CancelRead was called
}

// newRecvStream makes one of a connection whose spills ahead sums up, and which owner
// knows, if it is not nil.
func newRecvStream(src quicReceiver, ahead *atomic.Int64, owner *barrier) *recvStream {
	return &recvStream{src: src, owner: owner, id: src.StreamID(), ahead: ahead}
}

// done tells the barrier that nothing more is wanted.
func (s *recvStream) done() {
	if s.owner != nil {
		s.owner.forget(s.id)
	}
}

// Read returns stream bytes in order. It returns io.EOF after the FIN, a
// *quic.StreamError after a reset, and the connection's close error only after
// everything that QUIC had received before the close.
func (s *recvStream) Read(p []byte) (int, error) {
	s.turn.Lock()
	defer s.turn.Unlock()

	if len(s.spill) > 0 && !s.cancelled.Load() {
		if s.deadlines.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		n := copy(p, s.spill)
		s.unspill(int64(n))
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
	return n, s.took(n, err)
}

// took records the result of a read from src, and returns its error. The caller has the
// turn.
func (s *recvStream) took(n int, err error) error {
	s.offset.Add(int64(n))
	if err == nil || isContextOrDeadline(err) {
		return err
	}
	s.finished.Store(errors.Is(err, io.EOF))
	if reset := s.reset.Load(); reset != nil && !s.finished.Load() && !wasReset(err) {
		err = reset
	}
	s.end = err
	s.done()
	return err
}

// resetBy notes a RESET_STREAM. A reader that waits in quic-go (v0.65.0) at that time, and
// runs only when the connection has been closed besides, is told of the close alone. But
// the stream had ended before, and what its code says of the request counts.
func (s *recvStream) resetBy(code quic.StreamErrorCode) {
	s.reset.CompareAndSwap(nil, &quic.StreamError{StreamID: s.id, ErrorCode: code, Remote: true})
}

// CancelRead asks the peer to stop sending (RFC 9000 §3.5) and discards what
// is buffered. After the FIN was taken it changes nothing for the peer.
func (s *recvStream) CancelRead(code h3frame.ErrorCode) {
	s.cancelled.Store(true)
	s.unspill(math.MaxInt64)
	s.src.CancelRead(quic.StreamErrorCode(code))
	s.done()
}

// unspill takes up to n bytes off what counts as spilled.
func (s *recvStream) unspill(n int64) {
	for {
		have := s.spilled.Load()
		take := min(n, have)
		if s.spilled.CompareAndSwap(have, have-take) {
			s.ahead.Add(-take)
			return
		}
	}
}

// SetReadDeadline makes reads after t fail with an error that matches
// os.ErrDeadlineExceeded, also one that waits now. The zero value means never.
// A later deadline lets reads go on where they stopped.
func (s *recvStream) SetReadDeadline(t time.Time) error { return s.deadlines.set(s.src, t) }

// drain moves what has arrived from src to the spill: the bytes below
// contiguous and, if ended, the FIN after them. It returns the bytes moved, and
// false if the deadline came first.
//
// It runs on the connection's run loop, or ahead of an end that is near. A reader
// that holds the turn is inside src.Read with data to return, so it gives the turn
// back without our help.
func (s *recvStream) drain(contiguous int64, ended bool, deadline time.Time) (moved int64, ok bool) {
	have, ok := s.takeTurn(contiguous, ended, deadline)
	if !have {
		return 0, ok
	}
	defer s.turn.Unlock()
	return s.move(contiguous, ended, deadline)
}

// A drain that waits for its turn looks after firstTurnCheck whether it is free, or the
// reader has left it nothing to do, and then ever more rarely, down to each turnCheck.
const (
	firstTurnCheck = 20 * time.Microsecond
	turnCheck      = time.Millisecond
)

// takeTurn waits for the turn, and returns without it, and true, once the reader has
// taken everything there was: it may then hold the turn for good, in a read that
// waits for more. It returns false at the deadline.
func (s *recvStream) takeTurn(contiguous int64, ended bool, deadline time.Time) (have, ok bool) {
	for pause := firstTurnCheck; ; pause = min(2*pause, turnCheck) {
		if s.turn.TryLock() {
			return true, true
		}
		if !ended && s.offset.Load() >= contiguous {
			return false, true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, false
		}
		time.Sleep(min(pause, left))
	}
}

// readAhead is drain for a stream that goes on: it moves up to limit bytes to the
// spill, in all, and nothing while somebody reads.
func (s *recvStream) readAhead(contiguous int64, ended bool, limit int64, deadline time.Time) {
	room := limit - s.spilled.Load()
	if room <= 0 {
		return
	}
	if !s.turn.TryLock() {
		return
	}
	defer s.turn.Unlock()
	if upTo := s.offset.Load() + room; upTo < contiguous {
		contiguous, ended = upTo, false
	}
	s.move(contiguous, ended, deadline)
}

// move is what drain does with the turn.
func (s *recvStream) move(contiguous int64, ended bool, deadline time.Time) (moved int64, ok bool) {
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
		s.spilled.Add(int64(n))
		s.ahead.Add(int64(n))
		moved += int64(n)
		err = s.took(n, err)
		if err != nil && isContextOrDeadline(err) {
			return moved, false
		}
	}
	if s.cancelled.Load() {
		s.unspill(math.MaxInt64)
	}
	return moved, true
}
