package udp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is a UDP socket that Go's network poller does not know (see
// parking). Its descriptor is in blocking mode, so that package os keeps it
// from the poller, and all that is done with it says MSG_DONTWAIT.
type socket struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int // of file, for the reader, which Close waits for
	family int
	local  *net.UDPAddr
	remote *net.UDPAddr // nil if it is not connected

	senders sync.Pool // of *sender
	writes  gate

	dropped   atomic.Uint64 // writes that the kernel lacked memory for
	shortages atomic.Int32  // of them, those in a row

	in  queue      // of users of SyscallConn
	out queue      // of writers that find the send buffer full
	mu  sync.Mutex // guards what in and out point to, and the write deadline
}

// A queue is where goroutines wait for a socket one after the other.
type queue struct {
	turn    sync.Mutex
	events  uint32
	parking *parking // made when first needed
}

// takeOver moves a socket out of package net. keep or release must follow.
func takeOver(c *net.UDPConn) (_ *socket, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	defer func() {
		if err != nil {
			_ = unix.SetNonblock(fd, true) // a flag that it shares with c
			_ = unix.Close(fd)
		}
	}()
	s := &socket{fd: fd}
	s.in.events, s.out.events = unix.EPOLLIN, unix.EPOLLOUT
	if s.family, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if s.local, err = localAddr(c, fd); err != nil {
		return nil, err
	}
	s.remote, _ = c.RemoteAddr().(*net.UDPAddr)
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s.file = os.NewFile(uintptr(fd), "udp")
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, err
	}
	s.senders.New = func() any { return newSender(s) }
	return s, nil
}

// localAddr is the address of a socket. Package net asks for it once, and has none if
// that failed (Go 1.26).
func localAddr(c *net.UDPConn, fd int) (*net.UDPAddr, error) {
	if addr, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return addr, nil
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return &net.UDPAddr{IP: name.Addr[:], Port: name.Port}, nil
	case *unix.SockaddrInet6:
		addr := &net.UDPAddr{IP: name.Addr[:], Port: name.Port}
		if name.ZoneId != 0 {
			addr.Zone = zoneName(name.ZoneId)
		}
		return addr, nil
	}
	return nil, fmt.Errorf("udp: a socket with the local address %T", name)
}

// keep makes the take-over final.
func (s *socket) keep(c *net.UDPConn) { _ = c.Close() } // its descriptor; the socket lives on in ours

// release undoes the take-over.
func (s *socket) release() {
	_ = unix.SetNonblock(s.fd, true) // a flag that it shares with the descriptor of package net
	_ = s.file.Close()
}

// control runs f with the descriptor.
func (s *socket) control(f func(fd int)) error {
	if err := s.raw.Control(func(fd uintptr) { f(int(fd)) }); err != nil {
		return errors.Join(net.ErrClosed, err)
	}
	return nil
}

func (s *socket) setReadBuffer(bytes int) error {
	return s.setInt(unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
}

func (s *socket) setWriteBuffer(bytes int) error {
	return s.setInt(unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

func (s *socket) setInt(level, opt, value int) error {
	var err error
	if cerr := s.control(func(fd int) { err = unix.SetsockoptInt(fd, level, opt, value) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// await calls try, which must not block, until it reports true, first at once
// and then each time that the socket may be ready.
func (s *socket) await(q *queue, try func(uintptr) bool) error {
	q.turn.Lock()
	defer q.turn.Unlock()
	p, err := s.watch(q)
	switch {
	case momentary(err):
		return s.poll(q, try)
	case err != nil:
		return err
	}
	err = p.raw.Read(try)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes.closed.Load() { // and so is p
		return net.ErrClosed
	}
	// Watched on, it would wake a thread for each datagram that leaves.
	if unwatched := p.watch(false); err == nil && !momentary(unwatched) {
		err = unwatched
	}
	return err // as it is, so that net.OpError finds its Timeout
}

// poll is await where there is no descriptor for a parking, or no memory.
func (s *socket) poll(q *queue, try func(uintptr) bool) error {
	for !try(0) {
		time.Sleep(shortWait)
		if s.writes.closed.Load() {
			return net.ErrClosed
		}
		if q == &s.out {
			if err := s.writes.check(); err != nil {
				return err
			}
		}
	}
	if s.writes.closed.Load() {
		return net.ErrClosed
	}
	return nil
}

// sendDrops is how many writes the kernel lacked memory for.
func (s *socket) sendDrops() uint64 { return s.dropped.Load() }

// watch makes the queue's parking look at the socket.
func (s *socket) watch(q *queue) (*parking, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes.closed.Load() {
		return nil, net.ErrClosed
	}
	if q.parking == nil {
		p, err := newParking(s.fd, q.events, false)
		if err != nil {
			return nil, err
		}
		if left, ok := s.writes.left(); ok && q == &s.out {
			_ = p.setDeadline(time.Now().Add(left))
		}
		q.parking = p
	}
	return q.parking, q.parking.watch(true)
}

// setWriteDeadline sets when writes fail.
func (s *socket) setWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes.closed.Load() {
		return net.ErrClosed
	}
	s.writes.set(t)
	if s.out.parking != nil {
		return s.out.parking.setDeadline(t)
	}
	return nil
}

// close ends waits of writers, and closes the descriptor when the last user of
// it has gone. The reader must have gone.
func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes.closed.Store(true)
	for _, q := range []*queue{&s.in, &s.out} {
		if q.parking != nil {
			q.parking.free()
		}
	}
	return s.file.Close()
}

// syscallConn is the RawConn of users.
func (s *socket) syscallConn() (syscall.RawConn, error) { return rawSocket{s}, nil }

// A rawSocket is what SyscallConn gives.
type rawSocket struct{ s *socket }

func (r rawSocket) Control(f func(fd uintptr)) error { return r.s.raw.Control(f) }

// Read calls f each time that the socket may be readable.
func (r rawSocket) Read(f func(fd uintptr) bool) error { return r.await(&r.s.in, f) }

// Write calls f each time that the socket may be writable.
func (r rawSocket) Write(f func(fd uintptr) bool) error { return r.await(&r.s.out, f) }

func (r rawSocket) await(q *queue, f func(fd uintptr) bool) error {
	return r.s.await(q, func(uintptr) (done bool) {
		if err := r.s.raw.Control(func(fd uintptr) { done = f(fd) }); err != nil {
			return true // closed, which await sees
		}
		return done
	})
}
