package udp

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// haveMmsg tells whether the system has recvmmsg(2).
const haveMmsg = true

// mmsgBatch is how many messages one recvmmsg brings at most: as many as
// quic-go (v0.65.0) takes in a batch.
const mmsgBatch = 8

// trainPayload is the room for a train: the longest UDP payload there is.
const trainPayload = 65535

// plainPayload is the room for a datagram where no trains come: more than any
// path MTU that QUIC uses, so that a longer one is no QUIC packet.
const plainPayload = 2048

// mmsghdr is struct mmsghdr of recvmmsg(2). Go pads it as C does; a padding of
// our own that is empty on 32-bit machines would make it longer there.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// A callReceiver receives by recvmmsg or recvmsg.
type callReceiver struct {
	stats *counters
	addrs addrCache
	ctrl  controlParser

	msgs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6
	oobs  []byte
	bufs  []byte

	got, pos int  // messages that were received, and those given out
	empty    bool // the last receive came to the end of the socket's queue
	failures int  // receives in a row that brought an error of the socket
}

// newCallReceiver makes a receiver for the Mmsg or the Msg backend.
func newCallReceiver(backend Backend, gro bool, stats *counters) *callReceiver {
	n, size := 1, plainPayload
	if backend == Mmsg {
		n = mmsgBatch
	}
	if gro {
		size = trainPayload
	}
	r := &callReceiver{
		stats: stats,
		empty: true,
		msgs:  make([]mmsghdr, n),
		iovs:  make([]unix.Iovec, n),
		names: make([]unix.RawSockaddrInet6, n),
		oobs:  make([]byte, n*oobSize),
		bufs:  make([]byte, n*size),
	}
	for i := range r.msgs {
		r.iovs[i].Base = &r.bufs[i*size]
		r.iovs[i].SetLen(size)
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.oobs[i*oobSize]
	}
	return r
}

// next returns the next message that was received whole.
func (r *callReceiver) next() (packet, bool) {
	for r.pos < r.got {
		i := r.pos
		r.pos++
		m := &r.msgs[i]
		if m.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			r.stats.truncated.Add(1)
			continue
		}
		size := len(r.bufs) / len(r.msgs)
		name := unsafe.Slice((*byte)(unsafe.Pointer(&r.names[i])), atMost(m.hdr.Namelen, int(unsafe.Sizeof(r.names[i]))))
		control, segment := r.ctrl.parse(r.oobs[i*oobSize : i*oobSize+atMost(m.hdr.Controllen, oobSize)])
		return packet{
			addr:    r.addrs.lookup(name),
			payload: r.bufs[i*size : i*size+atMost(m.len, size)],
			segment: segment,
			control: control,
		}, true
	}
	return packet{}, false
}

// atMost is a length that the kernel gives, and no more than there is room for: on a
// 32-bit machine an int may not hold it.
func atMost[T uint32 | uint64](n T, room int) int { return int(min(uint64(n), uint64(room))) }

// receive takes what is in the socket, up to the number of messages.
func (r *callReceiver) receive(fd int) (int, error) {
	r.got, r.pos = 0, 0
	for {
		r.stats.enters.Add(1)
		n, errno := r.call(fd)
		switch errno {
		case unix.EAGAIN:
			r.empty, r.failures = true, 0
			return 0, nil
		case 0:
			r.got, r.failures = n, 0
			// One message more would have been received, had it been there.
			r.empty = n < len(r.msgs)
			return n, nil
		}
		r.empty = false // nobody knows: whoever waits asks again
		r.failures++
		if transient(errno) {
			r.stats.failed.Add(1)
		}
		if r.failures < maxFailures && (errno == unix.EINTR || transient(errno)) {
			continue
		}
		err := os.NewSyscallError(r.callName(), errno)
		if r.failures > 1 {
			err = fmt.Errorf("%d receives in a row failed: %w", r.failures, err)
		}
		r.failures = 0
		return 0, err
	}
}

// callName is the system call that receives.
func (r *callReceiver) callName() string {
	if len(r.msgs) == 1 {
		return "recvmsg"
	}
	return "recvmmsg"
}

// drained tells whether the last receive came to the end of the socket's queue.
func (r *callReceiver) drained() bool { return r.empty }

// call is recvmsg(2) or recvmmsg(2). Neither blocks, so that Go's scheduler
// need not know of them: telling costs more than the call, as it wakes the
// runtime's monitor thread out of its sleep (Go 1.26).
func (r *callReceiver) call(fd int) (int, syscall.Errno) {
	for i := range r.msgs {
		h := &r.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(r.names[i]))
		h.SetControllen(oobSize)
		h.Flags = 0
	}
	if len(r.msgs) == 1 {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msgs[0].hdr)), unix.MSG_DONTWAIT)
		if errno != 0 {
			return 0, errno
		}
		r.msgs[0].len = uint32(n)
		return 1, 0
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(len(r.msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// maxFailures is how many errors in a row a socket may report before they are
// taken for its end.
const maxFailures = 64

// transient tells errors of a socket that say nothing about the next datagram:
// an ICMP answer to something that was sent (udp(7)).
func transient(errno syscall.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EPROTO:
		return true
	}
	return false
}
