package udp

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A receiver takes packets off a socket by one kind of system call.
type receiver interface {
	source
	// receive takes what is in the socket now, without waiting, and returns how
	// many packets about, 0 for none. All of the last receive must have been
	// taken by next.
	receive(fd int) (int, error)
	// drained tells, when next has nothing more, that the last receive came to
	// the end of the socket's queue.
	drained() bool
}

// A socketReader is the reader of Linux: it receives by system calls or through
// the ring, and waits between.
type socketReader struct {
	socket *socket
	park   *parking
	gate   *gate
	inbox  *inbox
	stats  *counters
	mod    moderator
	yield  *yielder // of the lane

	calls receiver      // nil with the Uring backend asked for by name
	ring  *ringReceiver // nil with the other backends
	lost  func(error)   // is told that the ring has failed, and that calls go on without it

	cur     receiver // of the packets that next returns
	packets int      // since the last wait
	bytes   int

	ringShort, callShort, parkShort shortage // of the ring, of system calls that receive, and of waiting

	try    func(uintptr) bool // tryReceive, made once: a method value allocates
	waited bool               // tryReceive was called before
	err    error              // of tryReceive
}

// newReader makes the reader of a backend. With Auto the ring is used while the
// socket is busy, and system calls while it is idle.
func newReader(c *Conn, backend Backend, o options) (_ reader, err error) {
	r := &socketReader{socket: c.sock, gate: &c.gate, inbox: &c.inbox, stats: &c.stats, lost: c.loseRing, yield: &c.yield}
	r.mod = moderator{max: o.moderation, room: c.sock.readBuffer}
	r.try = r.tryReceive
	calls := backend
	if backend == Uring {
		r.ring, err = newRingReceiver(c.gro, o.buffers)
		switch {
		case err == nil:
			c.ring, r.cur = r.ring.rx, r.ring
		case o.backend == Auto && !o.strict && !momentary(err):
			c.loseRing(err) // the self-test has passed; what it does for all is not for us
		default:
			return nil, err
		}
		calls = Mmsg
	}
	if backend != Uring || o.backend == Auto {
		r.calls = newCallReceiver(calls, c.gro, &c.stats)
		r.cur = r.calls
	}
	if r.park, err = newParking(c.sock.fd, unix.EPOLLIN, true); err != nil {
		r.free()
		return nil, err
	}
	return r, nil
}

// next returns what has been received already.
func (r *socketReader) next() (packet, bool) {
	p, ok := r.cur.next()
	r.bytes += len(p.payload)
	return p, ok
}

// wait blocks until next has something, and receives it.
func (r *socketReader) wait() error {
	for {
		if !r.cur.drained() {
			n, err := r.receive()
			if n > 0 || err != nil {
				return err
			}
			if !r.cur.drained() { // the kernel lacks memory for the moment
				if err := r.park.pause(shortWait); err != nil {
					return r.waitError(err)
				}
				r.parkShort = 0
			}
			continue
		}
		r.yield.allow()
		pause := r.mod.pause(r.packets, r.bytes, time.Since(epoch))
		r.packets, r.bytes = 0, 0
		if pause == 0 {
			r.waited, r.err = false, nil
			if err := r.park.until(r.try); err != nil {
				return r.waitError(err)
			}
			r.parkShort = 0
			if r.err != nil || r.packets > 0 || r.cur.drained() {
				return r.err
			}
			continue
		}
		r.stats.pauses.Add(1)
		if err := r.park.pause(pause); err != nil {
			return r.waitError(err)
		}
		r.parkShort = 0
		n, err := r.receive()
		if n > 0 || err != nil || r.inbox.has() {
			return err
		}
	}
}

// tryReceive is what a wait for the socket repeats.
func (r *socketReader) tryReceive(uintptr) bool {
	if r.waited {
		r.stats.wakes.Add(1)
	}
	r.waited = true
	n, err := r.receive()
	r.err = err
	return n > 0 || err != nil || !r.cur.drained() || r.inbox.has()
}

// receive takes what is in the socket, by what suits the load. It is 0 without an
// error, and not drained, if what it lacked may be there soon.
func (r *socketReader) receive() (int, error) {
	busy := r.mod.on || !r.cur.drained()
	if r.ring != nil && (busy || r.calls == nil) {
		n, err := r.ring.receive(r.socket.fd)
		if err == nil {
			r.cur, r.ringShort = r.ring, 0
			r.packets += n
			return n, nil
		}
		lasts := r.ringShort.lasts(err)
		switch {
		case r.calls == nil && lasts:
			return 0, fmt.Errorf("%w; with backend auto reading goes on without io_uring", explain(err))
		case r.calls == nil:
			return 0, nil
		case lasts:
			r.loseRing(err)
		}
		// The datagrams wait in the socket.
	}
	r.cur = r.calls
	n, err := r.calls.receive(r.socket.fd)
	switch {
	case err == nil:
		r.callShort = 0
		r.packets += n
		return n, nil
	case r.callShort.lasts(err):
		return 0, explain(err)
	}
	return 0, nil
}

// loseRing goes on without a ring that has failed.
func (r *socketReader) loseRing(err error) {
	r.ring.free()
	r.ring = nil
	r.lost(err)
}

// waitError says what the end of a wait means.
func (r *socketReader) waitError(err error) error {
	if gateErr := r.gate.check(); gateErr != nil {
		return gateErr
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it was changed meanwhile
	}
	if r.parkShort.lasts(err) {
		return explain(err)
	}
	time.Sleep(shortWait) // there is nothing better to wait by
	return nil
}

// setDeadline sets when wait fails with os.ErrDeadlineExceeded.
func (r *socketReader) setDeadline(t time.Time) error { return r.park.setDeadline(t) }

// interrupt ends a wait, for good. The gate must be closed.
func (r *socketReader) interrupt() { _ = r.park.setDeadline(longAgo) }

// wake has a wait look at the inbox.
func (r *socketReader) wake() { r.park.wake() }

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// free gives back what the reader holds. It must not be reading.
func (r *socketReader) free() {
	if r.ring != nil {
		r.ring.free()
	}
	if r.park != nil {
		r.park.free()
	}
}
