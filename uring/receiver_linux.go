//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// Tags of requests.
const (
	tagRecv uint64 = iota + 1
	tagWake
	tagCancel
)

// nameLen is the room for a peer's address: struct sockaddr_in6 is 28 bytes,
// and 32 keeps what follows aligned to 8.
const nameLen = 32

// lostOwner stands for an owner that has ended and whose thread ID another
// thread has now.
const lostOwner = -1

// maxFailures is how many receives in a row may fail before Wait gives up. A
// UDP socket reports an ICMP error of some peer in this way (udp(7)), which
// says nothing about the next datagram.
const maxFailures = 64

// A Receiver receives the datagrams of one UDP socket.
//
// The thread that calls Own owns the ring: only it may call Wait and Close.
// Next and Recycle touch only memory, so that another thread may call them too
// as long as calls do not overlap. Wake may be called from anywhere at any time
// before Close or Abandon.
type Receiver struct {
	conf   Config
	socket int
	ring   *ring
	bufs   *bufRing

	msgMem []byte // what receive and wake-up requests point to
	msg    *unix.Msghdr
	wakeFD int
	gone   int // read end of a pipe that hangs up when the kernel is done with the ring

	owner    int  // thread that called Own, 0 before
	armed    bool // a receive is under way
	waking   bool // a read of the eventfd is under way
	failures int
	lastErr  unix.Errno // of the last receive that failed
	closed   bool
	stats    counters
}

// counters is the live form of Stats: written by one goroutine, read by any.
type counters struct {
	enters, rearms, noBuffers, overflows, truncated, failed atomic.Uint64
}

// NewReceiver sets a ring up for a socket. The socket must be bound, and must
// stay open for as long as the Receiver is. Nothing is received before Own.
func NewReceiver(socket int, conf Config) (_ *Receiver, err error) {
	conf = conf.withDefaults()
	r := &Receiver{conf: conf, socket: socket, wakeFD: -1, gone: -1}
	defer func() {
		if err != nil {
			r.free()
		}
	}()
	size := recvmsgOutLen + nameLen + conf.Control + conf.Payload
	if r.bufs, err = newBufRing(conf.Buffers, (size+63)&^63); err != nil {
		return nil, err
	}
	// Each buffer can be a completion, and so can each of our own requests.
	if r.ring, err = newRing(conf.completions()); err != nil {
		return nil, explain(err)
	}
	if err = r.bufs.register(r.ring); err != nil {
		return nil, explain(err)
	}
	if err = r.watchTeardown(); err != nil {
		return nil, err
	}
	if r.msgMem, err = mapAnonymous(int(unsafe.Sizeof(unix.Msghdr{})) + 8); err != nil {
		return nil, err
	}
	r.msg = (*unix.Msghdr)(unsafe.Pointer(&r.msgMem[0]))
	r.msg.Namelen = nameLen
	r.msg.SetControllen(conf.Control)
	// Blocking, since io_uring fails a read of a non-blocking file instead of
	// waiting for it.
	if r.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return r, nil
}

// watchTeardown registers the write end of a pipe with the ring and closes it
// here. When the kernel has freed the ring, and so let go of the socket too,
// the read end hangs up.
func (r *Receiver) watchTeardown() error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	r.gone = p[0]
	defer func() { _ = unix.Close(p[1]) }()
	fd := int32(p[1])
	if err := r.ring.register(iouring.IORING_REGISTER_FILES, unsafe.Pointer(&fd), 1); err != nil {
		return fmt.Errorf("register file: %w", err)
	}
	return nil
}

// Own makes the calling thread the owner and begins to receive with the first
// Wait. The caller must have locked its goroutine to the thread
// (runtime.LockOSThread).
func (r *Receiver) Own() error {
	if err := r.ring.enable(); err != nil {
		return err
	}
	r.owner = unix.Gettid()
	return nil
}

// Owner tells whether the calling thread owns the ring.
func (r *Receiver) Owner() bool { return r.owner == unix.Gettid() }

// Orphaned tells that the thread that owned the ring has ended. The Receiver is
// good for Next and Abandon only then.
func (r *Receiver) Orphaned() bool {
	return r.owner == lostOwner || r.owner != 0 && errors.Is(unix.Tgkill(unix.Getpid(), r.owner, 0), unix.ESRCH)
}

// Owned tells whether Own has been called.
func (r *Receiver) Owned() bool { return r.owner != 0 }

// Wait submits what is due, and waits until Next has something, Wake was
// called, or the timeout is over; a negative timeout is none. It may return
// early for no reason. Only the owner may call it.
func (r *Receiver) Wait(timeout time.Duration) error {
	if r.closed {
		return os.ErrClosed
	}
	if !r.waking {
		r.armWake()
	}
	if !r.armed && r.bufs.free > 0 {
		r.armRecv()
	}
	if r.ring.overflowed() {
		r.stats.overflows.Add(1)
		timeout = 0 // this wait only makes room for them
	}
	r.stats.enters.Add(1)
	if err := r.ring.wait(timeout); err != nil {
		if errors.Is(err, unix.EEXIST) {
			// The kernel knows another owner (IORING_SETUP_SINGLE_ISSUER): it has
			// ended, and this thread was given its ID.
			r.owner = lostOwner
			return nil
		}
		return err
	}
	if r.failures >= maxFailures {
		return fmt.Errorf("io_uring: %d receives in a row failed: %w", r.failures, r.lastErr)
	}
	return nil
}

// Ready tells whether completions are there for Next, which may be others than
// datagrams. Like Next it makes no system call, and works without an owner.
func (r *Receiver) Ready() bool { return !r.closed && r.ring.pending() > 0 }

func (r *Receiver) armRecv() {
	sqe := r.ring.submission()
	sqe.PrepOperation(iouring.IORING_OP_RECVMSG, int32(r.socket), uint64(uintptr(unsafe.Pointer(r.msg))), 1, 0)
	sqe.SetIoprio(recvMultishot)
	sqe.SetFlags(sqeBufferSelect)
	sqe.SetBufGroup(bufGroup)
	sqe.SetUserData(tagRecv)
	r.armed = true
	r.stats.rearms.Add(1)
}

func (r *Receiver) armWake() {
	at := &r.msgMem[unsafe.Sizeof(unix.Msghdr{})]
	sqe := r.ring.submission()
	sqe.PrepOperation(iouring.IORING_OP_READ, int32(r.wakeFD), uint64(uintptr(unsafe.Pointer(at))), 8, 0)
	sqe.SetUserData(tagWake)
	r.waking = true
}

// Wake makes a Wait that is under way, or else the next one, return soon.
func (r *Receiver) Wake() {
	one := [8]byte{1}
	_, _ = unix.Write(r.wakeFD, one[:])
}

// Next returns the next datagram that has been received, or false. It makes
// no system call. The caller must Recycle the datagram's buffer after use.
func (r *Receiver) Next() (Datagram, bool) {
	for {
		cqe := r.ring.next()
		if cqe == nil {
			return Datagram{}, false
		}
		tag, res, flags := cqe.UserData(), cqe.Result(), cqe.Flags()
		r.ring.advance()
		switch tag {
		case tagWake:
			r.waking = false
		case tagRecv:
			if d, ok := r.received(res, flags); ok {
				return d, true
			}
		}
	}
}

// received handles one completion of the receive.
func (r *Receiver) received(res int32, flags uint32) (Datagram, bool) {
	if flags&cqeFMore == 0 {
		r.armed = false // Wait arms it again
	}
	if flags&cqeFBuffer == 0 {
		switch errno := unix.Errno(-res); {
		case res >= 0, errno == unix.ECANCELED:
		case errno == unix.ENOBUFS:
			r.stats.noBuffers.Add(1) // datagrams wait in the socket
		default:
			r.failures++
			r.lastErr = errno
			r.stats.failed.Add(1)
		}
		return Datagram{}, false
	}
	r.failures = 0
	id := uint16(flags >> 16)
	r.bufs.free--
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

// Stats returns what has happened so far. It may be called at any time.
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

// Close ends the receive and gives everything back. The socket is free when it
// returns. Only the owner may call it; datagrams that Next has not returned
// are lost, so that a caller who wants them takes them first.
func (r *Receiver) Close() error {
	if r.closed {
		return os.ErrClosed
	}
	r.closed = true
	if r.owner != 0 {
		r.cancel()
	}
	r.free()
	return nil
}

// cancel ends the requests under way and waits for the last completion of
// each. It consumes none, so that datagrams that came first are kept.
func (r *Receiver) cancel() {
	if !r.busy() {
		return
	}
	limit := time.Now().Add(teardownLimit)
	sqe := r.ring.submission()
	sqe.PrepOperation(iouring.IORING_OP_ASYNC_CANCEL, -1, 0, 0, 0)
	sqe.SetOpFlags(cancelAll | cancelAny)
	sqe.SetUserData(tagCancel)
	for r.busy() {
		// The completion ring holds every completion that the buffers and the
		// requests can make, so that the last ones come without any consumed.
		if err := r.ring.wait(teardownLimit); err != nil || r.ring.overflowed() || time.Now().After(limit) {
			return // free waits for the kernel instead
		}
	}
}

// busy tells whether a request is under way: armed, and its last completion
// not in the ring yet.
func (r *Receiver) busy() bool {
	armed, waking := r.armed, r.waking
	for i := range r.ring.pending() {
		switch cqe := r.ring.peek(i); cqe.UserData() {
		case tagRecv:
			armed = armed && cqe.Flags()&cqeFMore != 0
		case tagWake:
			waking = false
		}
	}
	return armed || waking
}

// Rest ends the receive until the next Wait. Only the owner may call it, and it
// should before its thread ends: requests of a thread that has ended live until
// the ring is torn down, which takes tens of milliseconds, and hold the
// socket's port for as long (Linux 6.18). Datagrams that have come stay for Next.
func (r *Receiver) Rest() {
	if !r.closed {
		r.cancel()
	}
}

// Abandon is Close for a thread that does not own the ring: the owner must not
// be inside of any call, and must not make another one. If requests are under
// way (see Rest) the kernel ends them some time after the ring's file is
// closed, and Abandon waits for that.
func (r *Receiver) Abandon() error {
	if r.closed {
		return os.ErrClosed
	}
	r.closed = true
	r.free()
	return nil
}

// teardownLimit bounds how long an end waits for the kernel. What it waits for
// takes some tens of milliseconds at the most.
const teardownLimit = 2 * time.Second

// free closes the ring and, once the kernel is done with it, unmaps what it
// used. If that takes too long the memory stays mapped: a leak is better than
// a datagram written over something else.
func (r *Receiver) free() {
	done := true
	busy := r.ring != nil && r.ring.fd >= 0 && r.busy()
	if r.ring != nil {
		r.ring.free()
	}
	if busy && r.gone >= 0 {
		done = hungUp(r.gone)
	}
	for _, fd := range []*int{&r.wakeFD, &r.gone} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
	if !done {
		return
	}
	if r.bufs != nil {
		r.bufs.unmap()
	}
	unmap(&r.msgMem)
}

// hungUp waits until the other end of a pipe is closed everywhere.
func hungUp(fd int) bool {
	deadline := time.Now().Add(teardownLimit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, int(left/time.Millisecond)+1)
		if err == nil && n > 0 {
			return true
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}
