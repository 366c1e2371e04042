package tailfin

import (
	"time"

	"github.com/quic-go/quic-go/qlog"
)

// Ends without a CONNECTION_CLOSE.
//
// When quic-go (v0.65.0) gives a connection up for silence, or on a stateless
// reset, no packet is reported on the run loop before the streams are closed, so
// that there is nothing to drain on. Both ends can be seen coming, though: an
// idle timeout by the silence before it, and a stateless reset by the datagram,
// which passes through our socket first (resetGuard). The drain then runs ahead
// of the end, on a goroutine of its own. What it reads is kept in the spill of
// each stream, like at a close.

// idleTicks is how many times within an idle timeout the barrier looks whether
// anything has arrived, and quietTicks how many of these intervals must have passed
// without it for a drain. What a look may be late by is then left of the timeout:
// a quarter of it, several seconds by default.
const (
	idleTicks  = 8
	quietTicks = 5
)

// defaultIdleTimeout is what quic-go takes for a zero quic.Config.MaxIdleTimeout.
const defaultIdleTimeout = 30 * time.Second

// defaultWindow is what quic-go takes for a zero quic.Config.MaxConnectionReceiveWindow.
const defaultWindow = 15 << 20

// defaultMaxStreamWindow is the same for quic.Config.MaxStreamReceiveWindow.
const defaultMaxStreamWindow = 6 << 20

// An idleWatch tells when a connection has been silent for most of its idle timeout.
// The barrier's mu guards it.
type idleWatch struct {
	timeout time.Duration // ours, then the lower of ours and the peer's
	timer   *time.Timer   // nil until the peer's is known
	looked  time.Time     // when the last look was
	seen    uint64        // packets received as of then
	since   time.Time     // nothing has arrived since some time after this
	drained bool          // since then
	over    bool
}

// start begins to watch once the peer has said what it wants, in RFC 9000 §18.2's
// max_idle_timeout; 0 is none.
func (b *barrier) startIdleWatch(peers time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &b.idle
	if peers > 0 {
		w.timeout = min(w.timeout, peers)
	}
	if w.timer == nil && !w.over {
		w.looked = time.Now()
		w.since = w.looked
		w.timer = time.AfterFunc(w.timeout/idleTicks, b.idleTick)
	}
}

func (b *barrier) stopIdleWatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle.over = true
	if b.idle.timer != nil {
		b.idle.timer.Stop()
	}
}

// idleTick looks for silence, and drains when there was much of it. A drain that
// comes for nothing, as the connection goes on, only moves bytes.
func (b *barrier) idleTick() {
	now, received := time.Now(), b.received.Load()
	b.mu.Lock()
	w := &b.idle
	if w.over {
		b.mu.Unlock()
		return
	}
	if received != w.seen {
		w.seen, w.since, w.drained = received, w.looked, false
	}
	w.looked = now
	due := !w.drained && now.Sub(w.since) >= w.timeout/idleTicks*quietTicks
	w.drained = w.drained || due
	w.timer.Reset(w.timeout / idleTicks)
	b.mu.Unlock()
	if due {
		b.drainAhead(&b.counters.idle)
	}
}

// parameters takes what the peer's transport parameters say.
func (b *barrier) parameters(ev qlog.ParametersSet) {
	if ev.Initiator != qlog.InitiatorRemote {
		return
	}
	if ev.StatelessResetToken != nil {
		b.watchToken(*ev.StatelessResetToken)
	}
	b.startIdleWatch(ev.MaxIdleTimeout)
}

// drainAhead moves what has arrived to the spills, from outside the run loop. It
// leaves streams that nobody has accepted to those who accept them, and does
// nothing while the spills hold as much as the windows of the connection or of the
// streams: reading gives the peer credit for as much again.
func (b *barrier) drainAhead(counter *endCounter) {
	unread := b.unread()
	if len(unread) == 0 || b.ahead.Load() >= min(b.window, int64(len(unread))*b.perStream) {
		return
	}
	deadline := time.Now().Add(b.timeout)
	for _, s := range unread {
		if s.recv == nil {
			continue
		}
		moved, ok := s.recv.drain(s.contiguous, s.ended, deadline)
		counter.bytes.Add(uint64(moved))
		if !ok {
			b.counters.timedOut.Add(1)
			return
		}
	}
	counter.drains.Add(1)
}
