package tailfin

import (
	"context"
	"sync/atomic"
	"time"
)

// DefaultDrainTimeout bounds one drain. A drain takes microseconds, since it
// reads only what has arrived; the bound is for an application that holds a
// stream it does not return from.
const DefaultDrainTimeout = 5 * time.Second

// lateGrace is what each stream has after one of them has used the drain's time up.
const lateGrace = 5 * time.Millisecond

// DrainStats counts what the barrier did. All counts grow only.
type DrainStats struct {
	// Closes is the number of CONNECTION_CLOSE frames that the barrier met.
	Closes uint64 `json:"closes"`
	// Streams is the number of streams that had something unread at a close.
	Streams uint64 `json:"streams"`
	// Bytes is the number of stream bytes that a close would have dropped.
	Bytes uint64 `json:"bytes"`
	// Unaccepted is the number of streams that nobody had accepted at a close.
	Unaccepted uint64 `json:"unaccepted"`
	// IdleDrains and ResetDrains are the number of times that streams were read
	// ahead of an idle timeout and of a stateless reset, IdleBytes and ResetBytes
	// what was unread then. An idle timeout may not come after all, and then
	// nothing was saved by it.
	IdleDrains  uint64 `json:"idle_drains"`
	IdleBytes   uint64 `json:"idle_bytes"`
	ResetDrains uint64 `json:"reset_drains"`
	ResetBytes  uint64 `json:"reset_bytes"`
	// TimedOut is the number of drains that met their deadline, and so may
	// have lost bytes.
	TimedOut uint64 `json:"timed_out"`
}

// drainCounters is the live form of DrainStats.
type drainCounters struct {
	closes, streams, bytes, unaccepted, timedOut atomic.Uint64

	idle, reset endCounter
}

// An endCounter counts drains ahead of one kind of end.
type endCounter struct{ drains, bytes atomic.Uint64 }

func (c *drainCounters) snapshot() DrainStats {
	return DrainStats{
		Closes:     c.closes.Load(),
		Streams:    c.streams.Load(),
		Bytes:      c.bytes.Load(),
		Unaccepted: c.unaccepted.Load(),
		TimedOut:   c.timedOut.Load(),

		IdleDrains:  c.idle.drains.Load(),
		IdleBytes:   c.idle.bytes.Load(),
		ResetDrains: c.reset.drains.Load(),
		ResetBytes:  c.reset.bytes.Load(),
	}
}

// drain empties every stream. It runs on the run loop, once.
func (b *barrier) drain(deadline time.Time) {
	b.counters.closes.Add(1)
	unread := b.unread()
	if len(unread) == 0 {
		return
	}
	// Counted before anything waits: what the close would have dropped.
	b.counters.streams.Add(uint64(len(unread)))
	for _, s := range unread {
		b.counters.bytes.Add(uint64(s.missing))
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	// A connection may be closed before anyone accepted it. Its run loop being
	// here keeps it open until someone does.
	select {
	case <-b.bound:
	case <-timer.C:
		b.counters.timedOut.Add(1)
		return
	}
	b.acceptQueued()
	for {
		waiting, late := false, false
		for _, s := range b.unread() {
			if s.recv == nil {
				waiting = true // between quic-go's accept and our adopt
				continue
			}
			if late {
				deadline = time.Now().Add(lateGrace) // the other streams are not to suffer for one
			}
			if _, ok := s.recv.drain(s.contiguous, s.ended, deadline); !ok {
				late = true
			}
		}
		if late {
			b.counters.timedOut.Add(1)
			return
		}
		if !waiting {
			return
		}
		select {
		case <-b.arrivals:
		case <-timer.C:
			b.counters.timedOut.Add(1)
			return
		}
	}
}

// unreadStream is a stream with something to drain, as of one look.
type unreadStream struct {
	recv       *recvStream
	contiguous int64
	missing    int64 // contiguous bytes that nobody has read
	ended      bool
}

// unread lists the streams that have received more than was read from them.
func (b *barrier) unread() []unreadStream {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []unreadStream
	for _, s := range b.streams {
		read := int64(0)
		if s.recv != nil {
			read = s.recv.offset.Load()
		}
		// A stream whose end was read is not in the map any more.
		missing := max(0, s.ledger.contiguous-read)
		if missing > 0 || s.ledger.ended() {
			list = append(list, unreadStream{s.recv, s.ledger.contiguous, missing, s.ledger.ended()})
		}
	}
	return list
}

// acceptQueued takes the streams that quic-go holds for an accept that comes
// too late. With a cancelled context AcceptStream returns what is queued and
// does not wait (quic-go v0.65.0).
func (b *barrier) acceptQueued() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		str, err := b.conn.AcceptStream(ctx)
		if err != nil {
			break
		}
		recv := b.adopt(str)
		b.counters.unaccepted.Add(1)
		b.mu.Lock()
		b.bidi = append(b.bidi, acceptedStream{str, recv})
		b.mu.Unlock()
	}
	for {
		str, err := b.conn.AcceptUniStream(ctx)
		if err != nil {
			break
		}
		recv := b.adopt(str)
		b.counters.unaccepted.Add(1)
		b.mu.Lock()
		b.uni = append(b.uni, recv)
		b.mu.Unlock()
	}
}
