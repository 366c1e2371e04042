package udp

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A sender is what one sendmsg(2) points to. It is pooled, since its parts
// would be allocated for each datagram otherwise.
type sender struct {
	s     *socket
	hdr   unix.Msghdr
	iov   unix.Iovec
	name  [unix.SizeofSockaddrInet6]byte
	errno syscall.Errno
	n     int

	send  func(fd uintptr)      // trySend, made once: a method value allocates
	again func(fd uintptr) bool // trySend for a parking
}

func newSender(s *socket) *sender {
	m := &sender{s: s}
	m.hdr.Iov = &m.iov
	m.hdr.SetIovlen(1)
	m.send = m.trySend
	m.again = func(uintptr) bool {
		if s.raw.Control(m.send) != nil {
			return true // closed, which await sees
		}
		return m.errno != unix.EAGAIN
	}
	return m
}

// trySend does not block, and so Go's scheduler need not know of it: telling
// costs as much as sending does, as it wakes the runtime's monitor thread.
func (m *sender) trySend(fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == unix.EINTR {
			continue
		}
		m.n, m.errno = int(n), errno
		return
	}
}

// writeMsg sends a datagram or a GSO train. A nil address is for a connected
// socket. It blocks while the send buffer is full, until the write deadline.
func (s *socket) writeMsg(p, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if err := s.writes.check(); err != nil {
		return 0, 0, s.writeError(addr, err)
	}
	m := s.senders.Get().(*sender) //nolint:forcetypeassert // New makes nothing else
	defer s.senders.Put(m)
	m.hdr.Name, m.hdr.Namelen = nil, 0
	switch {
	case addr == nil && s.remote == nil:
		return 0, 0, s.writeError(addr, unix.EDESTADDRREQ)
	case addr != nil && s.remote != nil:
		return 0, 0, s.writeError(addr, net.ErrWriteToConnected)
	case addr != nil:
		size, err := putSockaddr(&m.name, s.family, addr)
		if err != nil {
			return 0, 0, s.writeError(addr, err)
		}
		m.hdr.Name, m.hdr.Namelen = &m.name[0], size
	}
	m.iov.Base = unsafe.SliceData(p)
	m.iov.SetLen(len(p))
	m.hdr.Control = nil
	if len(oob) > 0 {
		m.hdr.Control = &oob[0]
	}
	m.hdr.SetControllen(len(oob))
	err = m.transmit()
	m.iov.Base, m.hdr.Control = nil, nil // not for the pool to keep
	if err != nil {
		return 0, 0, s.writeError(addr, err)
	}
	return m.n, len(oob), nil
}

// transmit sends what was prepared.
func (m *sender) transmit() error {
	if m.s.raw.Control(m.send) != nil {
		return net.ErrClosed
	}
	if m.errno == unix.EAGAIN {
		if err := m.s.await(&m.s.out, m.again); err != nil {
			return err
		}
	}
	if m.errno != 0 {
		// quic-go (v0.65.0) looks for the name and for EIO, EPERM and EMSGSIZE.
		return os.NewSyscallError("sendmsg", m.errno)
	}
	return nil
}

// writeError wraps an error as package net does.
func (s *socket) writeError(addr *net.UDPAddr, err error) error {
	e := &net.OpError{Op: "write", Net: "udp", Source: s.local, Err: err}
	if addr != nil {
		e.Addr = addr
	} else if s.remote != nil {
		e.Addr = s.remote
	}
	return e
}
