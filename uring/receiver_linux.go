//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// nameLen is the room for a peer's address: struct sockaddr_in6 is 28 bytes,
// and 32 keeps what follows aligned to 8.
const nameLen = 32

// maxFailures is how many receives in a row may fail before Receive gives up. A
// UDP socket reports an ICMP error of some peer in this way (udp(7)), which
// says nothing about the next datagram.
const maxFailures = 64

// A Receiver takes the datagrams off UDP sockets, many by one system call.
//
// Any goroutine on any thread may use it, one at a time. Stats may be called
// at any time.
type Receiver struct {
	conf Config
	ring *ring
	bufs *bufRing

	msgMem []byte // the msghdr that receives point to
	msg    *unix.Msghdr

	open     bool // the kernel has taken a receive, and Next has not seen its end
	drained  bool // the last receive found the end of the socket's queue
	failures int
	lastErr  unix.Errno // of the last receive that failed
	barren   int        // receives in a row that brought no completion
	broken   error      // the ring is of no use any more
	closed   bool
	stats    counters
}

// counters is the live form of Stats: written by one goroutine, read by any.
type counters struct {
	enters, rearms, noBuffers, overflows, truncated, failed atomic.Uint64
}

// NewReceiver sets a ring up. It holds no socket. What blocks io_uring for good
// is a *BlockedError.
func NewReceiver(conf Config) (*Receiver, error) { return newReceiver(conf, newRing) }

func newReceiver(conf Config, makeRing func(completions int) (*ring, error)) (_ *Receiver, err error) {
	if conf, err = conf.withDefaults(); err != nil {
		return nil, err
	}
	r := &Receiver{conf: conf, drained: true}
	defer func() {
		if err != nil {
			r.free()
		}
	}()
	size := recvmsgOutLen + nameLen + conf.Control + conf.Payload
	if r.bufs, err = newBufRing(conf.Buffers, (size+63)&^63); err != nil {
		return nil, err
	}
	if r.ring, err = makeRing(conf.completions()); err != nil {
		return nil, explain(err)
	}
	if err = r.bufs.register(r.ring); err != nil {
		return nil, explain(err)
	}
	if r.msgMem, err = mapAnonymous(int(unsafe.Sizeof(unix.Msghdr{}))); err != nil {
		return nil, err
	}
	r.msg = (*unix.Msghdr)(unsafe.Pointer(&r.msgMem[0]))
	r.msg.Namelen = nameLen
	r.msg.SetControllen(conf.Control)
	return r, nil
}

var (
	// ErrLeftOpen says that the kernel went on with a receive after the call that
	// was to finish it. No kernel was seen to; the Receiver is of no use then, and
	// its memory stays mapped after Close, since the kernel may write to it.
	ErrLeftOpen = errors.New("io_uring: the kernel left a receive under way")
	// ErrInconsistent says that the kernel's account of the ring cannot be right: a
	// completion of no receive, or of a buffer that is not the kernel's. No kernel was
	// seen to give one; the Receiver is of no use then. What Next has returned is
	// sound, and what it has not is lost. Unless the end of the last receive is among
	// the completions, its memory stays mapped too.
	ErrInconsistent = errors.New("io_uring: the ring contradicts itself")
)

// Receive takes what waits in the socket's queue, up to the number of free
// buffers, for Next to return. It does not wait, and nothing of it is left
// under way: io_uring holds no reference to the socket after it. The socket
// must be open for as long as Receive runs.
//
// What an earlier Receive brought must have been taken by Next: it does nothing
// before. And it should have been recycled. An error of the socket that says nothing
// about the next datagram, such as an ICMP answer to one that was sent, is counted
// and passed over, and is an error of Receive only after many in a row.
func (r *Receiver) Receive(socket int) error {
	switch {
	case r.closed:
		return os.ErrClosed
	case r.broken != nil:
		return r.broken
	case r.failures >= maxFailures:
		r.failures = 0
		return fmt.Errorf("io_uring: %d receives in a row failed: %w", maxFailures, r.lastErr)
	case r.ring.pending() > 0:
		return nil
	case !r.open:
		r.queue(socket)
	case r.ring.overflowed():
		r.stats.overflows.Add(1) // submit brings the rest of the last receive
	default:
		return r.fail(ErrLeftOpen)
	}
	return r.submit()
}

// submit has the kernel work on what is queued.
func (r *Receiver) submit() error {
	r.stats.enters.Add(1)
	queued := r.ring.queued
	err := r.ring.submit()
	r.open = r.open || r.ring.queued < queued
	if err != nil {
		if errors.Is(err, ErrInconsistent) {
			return r.fail(err)
		}
		return err
	}
	if r.ring.pending() > 0 {
		r.barren = 0
		return nil
	}
	// What is left under way Next will see. A kernel that takes nothing, again and
	// again, would have the caller try for ever.
	if r.barren++; r.barren >= maxFailures {
		return r.fail(fmt.Errorf("%w: %d receives in a row brought no completion", ErrInconsistent, maxFailures))
	}
	return nil
}

// fail ends the use of the ring. Whoever waits for the socket to be readable learns
// it at the next Receive, which the queue's end must not keep off.
func (r *Receiver) fail(err error) error {
	r.broken, r.drained = err, false
	return err
}

// queue prepares one receive.
func (r *Receiver) queue(socket int) {
	if r.ring.queued == 0 {
		r.stats.rearms.Add(1)
	}
	sqe := r.ring.submission()
	sqe.PrepOperation(iouring.IORING_OP_RECVMSG, int32(socket), uint64(uintptr(unsafe.Pointer(r.msg))), 1, 0)
	sqe.SetIoprio(recvMultishot)
	sqe.SetFlags(sqeBufferSelect)
	sqe.SetBufGroup(bufGroup)
	// Without this the kernel would wait for more at the end of the queue.
	sqe.SetOpFlags(unix.MSG_DONTWAIT)
	r.bufs.lend()
	r.drained = false
}

// Next returns the next datagram that Receive brought, or false. It makes no
// system call. The caller must Recycle the datagram after use.
func (r *Receiver) Next() (Datagram, bool) {
	for !r.closed && r.broken == nil {
		switch waiting := r.ring.pending(); {
		case waiting == 0:
			if r.open && !r.ring.overflowed() {
				_ = r.fail(ErrLeftOpen)
			}
			return Datagram{}, false
		case waiting > r.ring.size():
			_ = r.fail(fmt.Errorf("%w: %d completions in a ring of %d", ErrInconsistent, waiting, r.ring.size()))
			return Datagram{}, false
		}
		cqe := r.ring.next()
		res, flags := cqe.Result(), cqe.Flags()
		r.ring.advance()
		if d, ok := r.received(res, flags); ok {
			return d, true
		}
	}
	return Datagram{}, false
}

// Pending is the number of completions that Next has not seen. Most are
// datagrams; the last of a receive may be its end alone.
func (r *Receiver) Pending() int {
	if r.closed || r.broken != nil {
		return 0
	}
	return int(min(r.ring.pending(), r.ring.size()))
}

// Drained tells, after Next has returned false, that the last Receive came to
// the end of the socket's queue.
func (r *Receiver) Drained() bool { return r.drained }

// received handles one completion.
func (r *Receiver) received(res int32, flags uint32) (Datagram, bool) {
	if !r.open {
		_ = r.fail(fmt.Errorf("%w: a completion (%d, flags %#x) of no receive", ErrInconsistent, res, flags))
		return Datagram{}, false
	}
	r.open = flags&cqeFMore != 0
	id, filled := uint16(flags>>16), flags&cqeFBuffer != 0
	if filled && !r.bufs.take(id) {
		_ = r.fail(fmt.Errorf("%w: buffer %d is not the one to be filled", ErrInconsistent, id))
		return Datagram{}, false
	}
	if res < 0 {
		if filled {
			r.bufs.giveBack(id)
		}
		r.ended(unix.Errno(-res))
		return Datagram{}, false
	}
	if !filled {
		_ = r.fail(fmt.Errorf("%w: %d bytes in no buffer", ErrInconsistent, res))
		return Datagram{}, false
	}
	r.failures = 0
	d, err := r.parse(id, res)
	if err != nil {
		r.stats.truncated.Add(1)
		r.bufs.giveBack(id)
		return Datagram{}, false
	}
	return d, true
}

// ended handles the error that a receive ended with.
func (r *Receiver) ended(errno unix.Errno) {
	switch {
	case errno == unix.EAGAIN:
		r.drained, r.failures = true, 0
	case errno == unix.ENOBUFS && r.bufs.usedUp():
		r.stats.noBuffers.Add(1) // the rest waits in the socket
	default:
		r.failures++
		r.lastErr = errno
		r.stats.failed.Add(1)
	}
}

var errTruncated = errors.New("truncated")

// parse takes a filled buffer apart. What it says of itself must be what the
// completion says: beyond that are bytes of an earlier datagram.
func (r *Receiver) parse(id uint16, res int32) (Datagram, error) {
	b := r.bufs.buffer(id)
	const head = recvmsgOutLen + nameLen
	start := head + r.conf.Control
	end := int(res)
	if end < start || end > len(b) {
		return Datagram{}, errTruncated
	}
	out := *(*recvmsgOut)(unsafe.Pointer(&b[0]))
	if out.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || out.payloadlen != uint32(end-start) ||
		out.namelen > nameLen || out.controllen > uint32(r.conf.Control) {
		return Datagram{}, errTruncated
	}
	name, control := recvmsgOutLen+int(out.namelen), head+int(out.controllen)
	return Datagram{
		Name:    b[recvmsgOutLen:name:name],
		Control: b[head:control:control],
		Payload: b[start:end:end],
		id:      id,
	}, nil
}

// Recycle gives the buffer of a datagram back to the kernel, once, and does nothing
// after Close. What of the datagram is used later may change at any time.
func (r *Receiver) Recycle(d Datagram) {
	if !r.closed {
		r.bufs.giveBack(d.id)
	}
}

// Stats returns what has happened so far.
func (r *Receiver) Stats() Stats {
	return Stats{
		Enters:    r.stats.enters.Load(),
		Rearms:    r.stats.rearms.Load(),
		NoBuffers: r.stats.noBuffers.Load(),
		Overflows: r.stats.overflows.Load(),
		Truncated: r.stats.truncated.Load(),
		Failed:    r.stats.failed.Load(),
	}
}

// Close gives everything back. Datagrams that Next has not returned, and the
// memory of those that it has, are gone.
func (r *Receiver) Close() error {
	if r.closed {
		return os.ErrClosed
	}
	r.settle()
	r.closed = true
	r.free()
	return nil
}

// settle looks for the end of the last receive among what Next has not seen.
func (r *Receiver) settle() {
	// Each round brings one completion at least of those that overran the ring.
	for range r.conf.Buffers + 1 {
		for range min(r.ring.pending(), r.ring.size()) {
			if r.open = r.open && r.ring.next().Flags()&cqeFMore != 0; !r.open {
				return
			}
			r.ring.advance()
		}
		if !r.open || !r.ring.overflowed() || r.ring.submit() != nil {
			return
		}
	}
}

// free unmaps all but what the kernel may still write to.
func (r *Receiver) free() {
	if r.ring != nil {
		r.ring.free()
	}
	if r.open {
		return
	}
	if r.bufs != nil {
		r.bufs.unmap()
	}
	unmap(&r.msgMem)
}
