package tailfin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
)

// errClosed stands for the close error that quic-go gives to streams.
var errClosed = &quic.ApplicationError{Remote: true, ErrorCode: 0x100}

// A fakeStream is a receive stream as quic-go has it: data, then perhaps FIN,
// then nothing until more arrives, a deadline, or the close, which hides data.
type fakeStream struct {
	id   quic.StreamID
	wake chan struct{}

	mu       sync.Mutex
	data     []byte
	fin      bool
	err      error // set by close and reset; comes before data, as in quic-go
	deadline time.Time
	reading  chan struct{} // if set, closed when a Read starts to block
}

func newFakeStream(id quic.StreamID) *fakeStream {
	return &fakeStream{id: id, wake: make(chan struct{}, 1)}
}

func (s *fakeStream) StreamID() quic.StreamID { return s.id }

func (s *fakeStream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		switch {
		case s.err != nil:
			defer s.mu.Unlock()
			return 0, s.err
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			defer s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			defer s.mu.Unlock()
			n := copy(p, s.data)
			s.data = s.data[n:]
			if len(s.data) == 0 && s.fin {
				return n, io.EOF
			}
			return n, nil
		case s.fin:
			defer s.mu.Unlock()
			return 0, io.EOF
		}
		deadline := s.deadline
		if s.reading != nil {
			close(s.reading)
			s.reading = nil
		}
		s.mu.Unlock()
		var timeout <-chan time.Time
		if !deadline.IsZero() {
			timeout = time.After(time.Until(deadline))
		}
		select {
		case <-s.wake:
		case <-timeout:
		}
	}
}

func (s *fakeStream) change(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *fakeStream) SetReadDeadline(t time.Time) error {
	s.change(func() { s.deadline = t })
	return nil
}

func (s *fakeStream) CancelRead(code quic.StreamErrorCode) {
	s.change(func() { s.err = &quic.StreamError{StreamID: s.id, ErrorCode: code} })
}

// arrive is a STREAM frame: to the stream first and then to the barrier, as
// quic-go does it. It returns the frame for packets with several.
func (s *fakeStream) arrive(off int64, data []byte, fin bool) qlog.Frame {
	s.change(func() { s.data, s.fin = append(s.data, data...), s.fin || fin })
	return qlog.Frame{Frame: &qlog.StreamFrame{StreamID: s.id, Offset: off, Length: int64(len(data)), Fin: fin}}
}

func (s *fakeStream) closeForShutdown() { s.change(func() { s.err = errClosed }) }

// noStreams is a connection on which nothing waits to be accepted.
type noStreams struct{}

func (noStreams) AcceptStream(ctx context.Context) (*quic.Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (noStreams) AcceptUniStream(ctx context.Context) (*quic.ReceiveStream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// serverBarrier is a barrier of a server whose connection was accepted.
func serverBarrier() *barrier {
	b := newBarrier(false, drainOptions{counters: new(drainCounters)}, nil)
	b.conn = noStreams{}
	close(b.bound)
	return b
}

func closeFrame() qlog.Frame {
	return qlog.Frame{Frame: &qlog.ConnectionCloseFrame{IsApplicationError: true, ErrorCode: 0x100}}
}

func received(b *barrier, frames ...qlog.Frame) { b.RecordEvent(qlog.PacketReceived{Frames: frames}) }

func readAll(t *testing.T, r io.Reader) (string, error) {
	t.Helper()
	var buf bytes.Buffer
	_, err := buf.ReadFrom(r)
	return buf.String(), err
}

func TestDrainSavesWhatWasNotRead(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(b *barrier, s *fakeStream)
		want string
		err  error // nil is a clean end
	}{
		{"whole message", func(b *barrier, s *fakeStream) {
			received(b, s.arrive(0, []byte("hello"), true), closeFrame())
		}, "hello", nil},
		{"close in a later packet", func(b *barrier, s *fakeStream) {
			received(b, s.arrive(0, []byte("hel"), false))
			received(b, s.arrive(3, []byte("lo"), true))
			received(b, closeFrame())
		}, "hello", nil},
		{"empty FIN", func(b *barrier, s *fakeStream) {
			received(b, s.arrive(0, []byte("hello"), false))
			received(b, s.arrive(5, nil, true), closeFrame())
		}, "hello", nil},
		{"no FIN", func(b *barrier, s *fakeStream) {
			received(b, s.arrive(0, []byte("hel"), false), closeFrame())
		}, "hel", errClosed},
		{"nothing arrived", func(b *barrier, _ *fakeStream) {
			received(b, closeFrame())
		}, "", errClosed},
		{"only FIN arrived", func(b *barrier, s *fakeStream) {
			received(b, s.arrive(0, nil, true), closeFrame())
		}, "", nil},
		{"frames behind the close are not waited for", func(b *barrier, s *fakeStream) {
			lost := qlog.Frame{Frame: &qlog.StreamFrame{StreamID: s.id, Offset: 3, Length: 2, Fin: true}}
			received(b, s.arrive(0, []byte("hel"), false), closeFrame(), lost)
		}, "hel", errClosed},
		{"a gap ends what can be saved", func(b *barrier, s *fakeStream) {
			gap := qlog.Frame{Frame: &qlog.StreamFrame{StreamID: s.id, Offset: 10, Length: 5, Fin: true}}
			received(b, s.arrive(0, []byte("hel"), false), gap, closeFrame())
		}, "hel", errClosed},
		{"frames of another packet number space order", func(b *barrier, s *fakeStream) {
			later := qlog.Frame{Frame: &qlog.StreamFrame{StreamID: s.id, Offset: 3, Length: 2, Fin: true}}
			received(b, later)
			received(b, s.arrive(0, []byte("hello"), true), closeFrame())
		}, "hello", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := serverBarrier()
			s := newFakeStream(0)
			recv := b.adopt(s)
			tc.run(b, s)
			s.closeForShutdown()
			got, err := readAll(t, recv)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Fatalf("read %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
			if n := b.counters.timedOut.Load(); n != 0 {
				t.Fatalf("%d drains timed out", n)
			}
			// The end is sticky.
			if n, err := recv.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Fatalf("read after the end: %d, %v", n, err)
			}
		})
	}
}

func TestDrainAfterPartialRead(t *testing.T) {
	b := serverBarrier()
	s := newFakeStream(4)
	recv := b.adopt(s)
	received(b, s.arrive(0, []byte("hello "), false))
	p := make([]byte, 4)
	if n, err := recv.Read(p); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	received(b, s.arrive(6, []byte("world"), true), closeFrame())
	s.closeForShutdown()
	got, err := readAll(t, recv)
	if got != "o world" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	if saved := b.counters.snapshot(); saved.Bytes != 7 || saved.Streams != 1 || saved.Closes != 1 {
		t.Fatalf("counted %+v", saved)
	}
}

func TestDrainBesideABlockedReader(t *testing.T) {
	b := serverBarrier()
	s := newFakeStream(0)
	blocked := make(chan struct{})
	s.reading = blocked
	recv := b.adopt(s)
	type result struct {
		data string
		err  error
	}
	done := make(chan result)
	go func() {
		var buf bytes.Buffer
		_, err := buf.ReadFrom(recv)
		done <- result{buf.String(), err}
	}()
	<-blocked
	received(b, s.arrive(0, []byte("one"), false), s.arrive(3, []byte("two"), true), closeFrame())
	s.closeForShutdown()
	if r := <-done; r.data != "onetwo" || r.err != nil {
		t.Fatalf("read %q, %v", r.data, r.err)
	}
}

// TestDrainGivesUp has a ledger that claims more than the stream delivers, as
// after a frame that quic-go refused: the run loop must not hang.
func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serverBarrier()
		s := newFakeStream(0)
		recv := b.adopt(s)
		claim := qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 0, Offset: 3, Length: 1000}}
		start := time.Now()
		received(b, s.arrive(0, []byte("abc"), false), claim, closeFrame())
		if took := time.Since(start); took != DefaultDrainTimeout {
			t.Fatalf("gave up after %v, want %v", took, DefaultDrainTimeout)
		}
		s.closeForShutdown()
		got, err := readAll(t, recv)
		if got != "abc" || !errors.Is(err, errClosed) {
			t.Fatalf("read %q, %v", got, err)
		}
		if n := b.counters.timedOut.Load(); n != 1 {
			t.Fatalf("%d drains timed out, want 1", n)
		}
	})
}

// TestDrainWaitsForAdoption has a stream that quic-go handed out and nobody
// has adopted yet when the close comes.
func TestDrainWaitsForAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serverBarrier()
		s := newFakeStream(0)
		frame := s.arrive(0, []byte("late"), true)
		adopted := make(chan *recvStream, 1)
		go func() {
			time.Sleep(10 * time.Millisecond)
			adopted <- b.adopt(s)
		}()
		received(b, frame, closeFrame())
		s.closeForShutdown()
		got, err := readAll(t, <-adopted)
		if got != "late" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
	})
}

// TestDrainWaitsForAccept has a connection that closes before it was accepted.
func TestDrainWaitsForAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBarrier(false, drainOptions{counters: new(drainCounters)}, nil)
		s := newFakeStream(0)
		frame := s.arrive(0, []byte("early"), true)
		adopted := make(chan *recvStream, 1)
		go func() {
			time.Sleep(10 * time.Millisecond)
			b.conn = noStreams{}
			close(b.bound)
			adopted <- b.adopt(s)
		}()
		received(b, frame, closeFrame())
		s.closeForShutdown()
		if got, err := readAll(t, <-adopted); got != "early" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
	})
}

func TestDrainSkipsWhatIsDone(t *testing.T) {
	b := serverBarrier()
	cancelled, reset, read := newFakeStream(0), newFakeStream(4), newFakeStream(8)
	c, r, e := b.adopt(cancelled), b.adopt(reset), b.adopt(read)
	received(b, cancelled.arrive(0, []byte("x"), false), reset.arrive(0, []byte("y"), false), read.arrive(0, []byte("z"), true))
	c.CancelRead(0x10c)
	if got, err := readAll(t, e); got != "z" || err != nil {
		t.Fatal(got, err)
	}
	resetErr := &quic.StreamError{StreamID: 4, ErrorCode: 0x10c, Remote: true}
	reset.change(func() { reset.err = resetErr })
	received(b, qlog.Frame{Frame: &qlog.ResetStreamFrame{StreamID: 4, ErrorCode: 0x10c}}, closeFrame())
	if got, err := readAll(t, r); got != "" || !errors.Is(err, error(resetErr)) {
		t.Fatalf("read %q, %v after a reset", got, err)
	}
	if n := b.counters.streams.Load(); n != 0 {
		t.Fatalf("%d streams drained, none had anything to save", n)
	}
	if len(b.streams) != 0 {
		t.Fatalf("%d streams still known", len(b.streams))
	}
	// A frame that comes again for a stream that is done makes no new entry.
	received(b, qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 8, Length: 1, Fin: true}})
	if len(b.streams) != 0 {
		t.Fatal("a repeated frame revived a stream")
	}
}

// TestResetShowsBehindAClose has a reset and a close before the reader runs, which is
// then told of the close alone: the reset came first.
func TestResetShowsBehindAClose(t *testing.T) {
	for _, readAhead := range []int64{0, 100} {
		b := serverBarrier()
		b.readAhead = readAhead
		s, other := newFakeStream(0), newFakeStream(4)
		r, o := b.adopt(s), b.adopt(other)
		received(b, s.arrive(0, []byte("x"), false))
		received(b, qlog.Frame{Frame: &qlog.ResetStreamFrame{StreamID: 0, ErrorCode: 0x10b}})
		received(b, qlog.Frame{Frame: &qlog.ResetStreamFrame{StreamID: 0, ErrorCode: 0x10c}}, closeFrame())
		s.change(func() { s.data = nil })
		s.closeForShutdown()
		other.closeForShutdown()
		_, err := readAll(t, r)
		var reset *quic.StreamError
		if !errors.As(err, &reset) || *reset != (quic.StreamError{StreamID: 0, ErrorCode: 0x10b, Remote: true}) {
			t.Errorf("a stream that was reset ends with %v", err)
		}
		if _, again := r.Read(make([]byte, 1)); again != err {
			t.Errorf("and then with %v", again)
		}
		if _, err := readAll(t, o); !errors.Is(err, errClosed) {
			t.Errorf("the other stream ends with %v", err)
		}
	}
}

// TestDiscoverIsBounded sends what no honest peer does.
func TestDiscoverIsBounded(t *testing.T) {
	b := serverBarrier()
	received(b, qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 1 << 60, Length: 1}})
	if len(b.streams) != 0 {
		t.Fatalf("a stream beyond the limit made %d entries", len(b.streams))
	}
	received(b, qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 1, Length: 1}}) // ours, and never opened
	if len(b.streams) != 0 {
		t.Fatal("a frame on a stream of ours made an entry")
	}
	received(b, qlog.Frame{Frame: &qlog.StreamFrame{StreamID: 4 * 99, Length: 1}})
	if len(b.streams) != 100 {
		t.Fatalf("opening stream 396 made %d entries, want 100 (RFC 9000 §2.1)", len(b.streams))
	}
}

func TestWatchEnd(t *testing.T) {
	b := serverBarrier()
	sent := b.watchEnd(4)
	b.RecordEvent(qlog.PacketSent{Frames: []qlog.Frame{{Frame: &qlog.StreamFrame{StreamID: 4, Length: 10}}}})
	select {
	case <-sent:
		t.Fatal("told of a FIN that was not sent")
	default:
	}
	fin := qlog.PacketSent{Frames: []qlog.Frame{{Frame: &qlog.StreamFrame{StreamID: 4, Offset: 10, Fin: true}}}}
	b.RecordEvent(fin)
	<-sent
	b.RecordEvent(fin) // sent again after a loss

	reset := b.watchEnd(8)
	b.RecordEvent(qlog.PacketSent{Frames: []qlog.Frame{{Frame: &qlog.ResetStreamFrame{StreamID: 8}}}})
	<-reset
	b.watchEnd(12)
	b.unwatchEnd(12)
	if len(b.endSent) != 0 {
		t.Fatalf("%d watches left", len(b.endSent))
	}
}

// TestDrainOfWhatWasReadMeanwhile has a reader take all that had arrived after the
// drain has looked, and wait for more: there is nothing to wait for.
func TestDrainOfWhatWasReadMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newFakeStream(3)
		s := newRecvStream(src, new(atomic.Int64), nil)
		src.arrive(0, []byte("abc"), false)
		done := make(chan error, 1)
		go func() {
			p := make([]byte, 10)
			_, _ = s.Read(p)
			_, err := s.Read(p) // holds the turn
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		moved, ok := s.drain(3, false, start.Add(time.Minute))
		if took := time.Since(start); moved != 0 || !ok || took > turnCheck {
			t.Errorf("moved %d, %v, after %v", moved, ok, took)
		}
		src.closeForShutdown()
		if err := <-done; err != errClosed {
			t.Errorf("the reader got %v", err)
		}
	})
}

// TestDrainSeesTheReaderCatchUp has the reader take what the drain waits for, in a
// read that holds the turn on.
func TestDrainSeesTheReaderCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRecvStream(newFakeStream(3), new(atomic.Int64), nil)
		s.turn.Lock() // a reader has it
		time.AfterFunc(20*time.Millisecond, func() { s.offset.Add(3) })
		start := time.Now()
		moved, ok := s.drain(3, false, start.Add(time.Minute))
		if took := time.Since(start); moved != 0 || !ok || took > 20*time.Millisecond+turnCheck {
			t.Errorf("moved %d, %v, after %v", moved, ok, took)
		}
		start = time.Now()
		if _, ok := s.drain(4, false, start.Add(time.Second)); ok || time.Since(start) != time.Second {
			t.Errorf("%v after %v, want false at the deadline", ok, time.Since(start))
		}
	})
}

// TestDrainGoesOnBehindAStuckStream has one stream whose turn nobody gives back: the
// others are drained all the same.
func TestDrainGoesOnBehindAStuckStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serverBarrier()
		var frames []qlog.Frame
		recvs := make([]*recvStream, 5)
		for i := range recvs {
			src := newFakeStream(quic.StreamID(4 * i))
			recvs[i] = b.adopt(src)
			frames = append(frames, src.arrive(0, []byte("data"), true))
		}
		recvs[2].turn.Lock() // for good
		received(b, frames...)
		b.drain(time.Now().Add(time.Second))
		for i, r := range recvs {
			if whole := string(r.spill) == "data" && r.end == io.EOF; whole == (i == 2) {
				t.Errorf("stream %d: drained %v", i, whole)
			}
		}
		if n := b.counters.timedOut.Load(); n != 1 {
			t.Errorf("%d drains timed out", n)
		}
	})
}
