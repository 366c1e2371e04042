package udp

import (
	"fmt"
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
	for interrupts := 0; ; interrupts++ {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == unix.EINTR && interrupts < maxFailures {
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
	switch m.errno {
	case 0:
		if m.s.shortages.Load() != 0 {
			m.s.shortages.Store(0)
		}
		return nil
	case unix.ENOBUFS, unix.ENOMEM:
		return m.drop()
	}
	// quic-go (v0.65.0) looks for the name and for EIO, EPERM and EMSGSIZE.
	return os.NewSyscallError("sendmsg", m.errno)
}

// drop is for what the kernel lacks memory to send. It is lost as if on the way,
// where a queue may be full too: quic-go (v0.65.0) would end the connection of a
// write that fails, and sends again, more slowly, what is not acknowledged.
func (m *sender) drop() error {
	m.s.dropped.Add(1)
	if n := m.s.shortages.Add(1); n >= maxFailures {
		m.s.shortages.Store(0)
		return fmt.Errorf("%d writes in a row failed: %w; %s", n, os.NewSyscallError("sendmsg", m.errno), shortOf(m.errno))
	}
	m.n = int(m.iov.Len)
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
