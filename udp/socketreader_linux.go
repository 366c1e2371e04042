package udp

import (
	"errors"
	"net"
	"os"
	"runtime"
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

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [unix.SizeofPtr - 4]byte
}

// A socketReader reads by recvmmsg or recvmsg. Go's network poller waits for
// the socket, and so takes care of deadlines and of Close.
type socketReader struct {
	raw   syscall.RawConn
	stats *counters
	addrs addrCache
	ctrl  controlParser

	msgs  []mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6
	oobs  []byte
	bufs  []byte

	got, pos int // messages that were received, and those given out
	errno    syscall.Errno
	receive  func(fd uintptr) bool // tryReceive, made once: a method value allocates
}

// newSocketReader makes a reader for the Mmsg or the Msg backend.
func newSocketReader(socket *net.UDPConn, backend Backend, gro bool, stats *counters) (*socketReader, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	n, size := 1, plainPayload
	if backend == Mmsg {
		n = mmsgBatch
	}
	if gro {
		size = trainPayload
	}
	r := &socketReader{
		raw:   raw,
		stats: stats,
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
	r.receive = r.tryReceive
	return r, nil
}

// next returns the next message that was received whole.
func (r *socketReader) next() (packet, bool) {
	for r.pos < r.got {
		i := r.pos
		r.pos++
		m := &r.msgs[i]
		if m.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			r.stats.truncated.Add(1)
			continue
		}
		size := len(r.bufs) / len(r.msgs)
		name := unsafe.Slice((*byte)(unsafe.Pointer(&r.names[i])), min(int(m.hdr.Namelen), int(unsafe.Sizeof(r.names[i]))))
		control, segment := r.ctrl.parse(r.oobs[i*oobSize : i*oobSize+min(int(m.hdr.Controllen), oobSize)])
		return packet{
			addr:    r.addrs.lookup(name),
			payload: r.bufs[i*size : i*size+min(int(m.len), size)],
			segment: segment,
			control: control,
		}, true
	}
	return packet{}, false
}

// wait blocks until messages are there, and receives them.
func (r *socketReader) wait() error {
	r.got, r.pos = 0, 0
	err := r.raw.Read(r.receive)
	runtime.KeepAlive(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return op.Err
		}
		return err
	}
	if r.errno != 0 && !transient(r.errno) {
		return os.NewSyscallError("recvmmsg", r.errno)
	}
	return nil
}

// stop has nothing to end: a receive is over when wait returns.
func (r *socketReader) stop() {}

// tryReceive receives what is there. It reports false for nothing, which has
// the network poller wait and call it again.
func (r *socketReader) tryReceive(fd uintptr) bool {
	for i := range r.msgs {
		h := &r.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(r.names[i]))
		h.SetControllen(oobSize)
		h.Flags = 0
	}
	for {
		r.stats.enters.Add(1)
		n, errno := r.recv(fd)
		if errno == unix.EINTR {
			continue
		}
		r.errno = errno
		if errno == unix.EAGAIN {
			return false
		}
		if errno == 0 {
			r.got = n
		}
		return true
	}
}

func (r *socketReader) recv(fd uintptr) (int, syscall.Errno) {
	if len(r.msgs) == 1 {
		n, _, errno := syscall.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0].hdr)), unix.MSG_DONTWAIT)
		if errno != 0 {
			return 0, errno
		}
		r.msgs[0].len = uint32(n)
		return 1, 0
	}
	n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(len(r.msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// transient tells errors of a socket that say nothing about the next datagram:
// an ICMP answer to something that was sent (udp(7)).
func transient(errno syscall.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EPROTO:
		return true
	}
	return false
}
