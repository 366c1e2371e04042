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

	open     bool // the end of the last receive has not been seen by Next
	drained  bool // the last receive found the end of the socket's queue
	failures int
	lastErr  unix.Errno // of the last receive that failed
	broken   error
	closed   bool
	stats    counters
}

// counters is the live form of Stats: written by one goroutine, read by any.
type counters struct {
	enters, rearms, noBuffers, overflows, truncated, failed atomic.Uint64
}

// NewReceiver sets a ring up. It holds no socket. What blocks io_uring for good
// is a *BlockedError.
func NewReceiver(conf Config) (_ *Receiver, err error) {
	conf = conf.withDefaults()
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
	if r.ring, err = newRing(conf.completions()); err != nil {
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

// ErrLeftOpen says that the kernel went on with a receive after the call that
// was to finish it. No kernel was seen to; the Receiver is of no use then, and
// its memory stays mapped, since the kernel may write to it.
var ErrLeftOpen = errors.New("io_uring: the kernel left a receive under way")

// Receive takes what waits in the socket's queue, up to the number of free
// buffers, for Next to return. It does not wait, and nothing of it is left
// under way: io_uring holds no reference to the socket after it. The socket
// must be open for as long as Receive runs.
//
// What an earlier Receive brought must have been taken by Next, and should have
// been recycled. An error of the socket that says nothing about the next
// datagram, such as an ICMP answer to one that was sent, is counted and passed
// over, and is an error of Receive only after many in a row.
func (r *Receiver) Receive(socket int) error {
	switch {
	case r.closed:
		return os.ErrClosed
	case r.broken != nil:
		return r.broken
	case r.failures >= maxFailures:
		r.failures = 0
		return fmt.Errorf("io_uring: %d receives in a row failed: %w", maxFailures, r.lastErr)
	}
	if r.ring.overflowed() {
		r.stats.overflows.Add(1) // submit brings the rest of the last receive
	} else if r.ring.queued == 0 {
		r.queue(socket)
	}
	r.stats.enters.Add(1)
	return r.ring.submit()
}

// queue prepares one receive.
func (r *Receiver) queue(socket int) {
	sqe := r.ring.submission()
	sqe.PrepOperation(iouring.IORING_OP_RECVMSG, int32(socket), uint64(uintptr(unsafe.Pointer(r.msg))), 1, 0)
	sqe.SetIoprio(recvMultishot)
	sqe.SetFlags(sqeBufferSelect)
	sqe.SetBufGroup(bufGroup)
	// Without this the kernel would wait for more at the end of the queue.
	sqe.SetOpFlags(unix.MSG_DONTWAIT)
	r.stats.rearms.Add(1)
	r.open, r.drained = true, false
}

// Next returns the next datagram that Receive brought, or false. It makes no
// system call. The caller must Recycle the datagram after use.
func (r *Receiver) Next() (Datagram, bool) {
	if r.closed {
		return Datagram{}, false
	}
	for {
		cqe := r.ring.next()
		if cqe == nil {
			if r.open && !r.ring.overflowed() && r.ring.queued == 0 && r.broken == nil {
				r.broken = ErrLeftOpen
			}
			return Datagram{}, false
		}
		res, flags := cqe.Result(), cqe.Flags()
		r.ring.advance()
		if d, ok := r.received(res, flags); ok {
			return d, true
		}
	}
}

// Pending is the number of completions that Next has not seen. Most are
// datagrams; the last of a receive may be its end alone.
func (r *Receiver) Pending() int {
	if r.closed {
		return 0
	}
	return int(r.ring.pending())
}

// Drained tells, after Next has returned false, that the last Receive came to
// the end of the socket's queue.
func (r *Receiver) Drained() bool { return r.drained }

// received handles one completion.
func (r *Receiver) received(res int32, flags uint32) (Datagram, bool) {
	if flags&cqeFMore == 0 {
		r.open = false
	}
	if flags&cqeFBuffer == 0 {
		switch errno := unix.Errno(-res); {
		case res >= 0:
		case errno == unix.EAGAIN:
			r.drained, r.failures = true, 0
		case errno == unix.ENOBUFS:
			r.stats.noBuffers.Add(1) // the rest waits in the socket
		default:
			r.failures++
			r.lastErr = errno
			r.stats.failed.Add(1)
		}
		return Datagram{}, false
	}
	r.failures = 0
	id := uint16(flags >> 16)
	d, err := r.parse(id, res)
	if err != nil {
		r.stats.truncated.Add(1)
		r.Recycle(d)
		return Datagram{}, false
	}
	return d, true
}

var errTruncated = errors.New("truncated")

// parse takes a filled buffer apart.
func (r *Receiver) parse(id uint16, res int32) (Datagram, error) {
	b := r.bufs.buffer(id)
	d := Datagram{id: id}
	const head = recvmsgOutLen + nameLen
	start := head + r.conf.Control
	if int(res) < start {
		return d, errTruncated
	}
	out := (*recvmsgOut)(unsafe.Pointer(&b[0]))
	if out.flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || int(out.payloadlen) > len(b)-start ||
		int(out.namelen) > nameLen || int(out.controllen) > r.conf.Control {
		return d, errTruncated
	}
	d.Name = b[recvmsgOutLen : recvmsgOutLen+int(out.namelen)]
	d.Control = b[head : head+int(out.controllen)]
	d.Payload = b[start : start+int(out.payloadlen)]
	return d, nil
}

// Recycle gives the buffer of a datagram back to the kernel.
func (r *Receiver) Recycle(d Datagram) {
	r.bufs.put(d.id)
	r.bufs.publish()
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
	r.closed = true
	r.free()
	return nil
}

func (r *Receiver) free() {
	if r.ring != nil {
		r.ring.free()
	}
	if errors.Is(r.broken, ErrLeftOpen) {
		return
	}
	if r.bufs != nil {
		r.bufs.unmap()
	}
	unmap(&r.msgMem)
}
