package udp

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A parking is where a goroutine waits for a socket, or for a time that is
// shorter than Go's timers can do. It is an epoll instance of its own, which is
// what Go's network poller watches instead of the socket:
//
//	Go's epoll ── parking's epoll ─┬─ socket, watched only while it is waited for
//	                               ├─ timerfd
//	                               └─ eventfd, for wake
//
// Were the socket in Go's epoll, each datagram would wake the thread that waits
// there, also while the reader pauses or is at work: with Go 1.26 and Linux
// 6.18 that costs more than the rest of receiving does. Go's own timers have
// the resolution of epoll_wait(2), a millisecond.
//
// One goroutine at a time uses it. Only setDeadline and wake may be called from
// others, and wake even after free.
type parking struct {
	file   *os.File // the epoll instance, in Go's poller
	raw    syscall.RawConn
	epfd   int
	socket int
	events uint32 // what the socket is waited for

	watched bool // the socket is among what the epoll instance watches
	timer   int  // timerfd, -1 without
	spec    unix.ItimerSpec
	pausing bool // the timer was set, and has not been waited for
	paused  func(uintptr) bool

	mu    sync.Mutex // guards waker
	waker int        // eventfd, -1 without
}

// newParking makes a parking for a socket, which must be closed after it. That
// of a reader has pause and wake.
func newParking(socket int, events uint32, ofReader bool) (_ *parking, err error) {
	p := &parking{socket: socket, events: events, epfd: -1, timer: -1, waker: -1}
	defer func() {
		if err != nil {
			p.free()
		}
	}()
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err = p.control(unix.EPOLL_CTL_ADD, socket, 0); err != nil {
		return nil, err
	}
	if ofReader {
		if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("timerfd_create", err)
		}
		if err = p.control(unix.EPOLL_CTL_ADD, p.timer, unix.EPOLLIN); err != nil {
			return nil, err
		}
		if p.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return nil, os.NewSyscallError("eventfd", err)
		}
		if err = p.control(unix.EPOLL_CTL_ADD, p.waker, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	// Package os gives files in non-blocking mode to Go's poller.
	if err = unix.SetNonblock(p.epfd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	p.file = os.NewFile(uintptr(p.epfd), "epoll")
	if err = p.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("udp: Go's network poller does not take an epoll instance: %w", err)
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, err
	}
	p.paused = p.pauseOver
	return p, nil
}

// control is epoll_ctl(2), edge-triggered: the other way an event that nobody
// takes would be reported again and again.
func (p *parking) control(op, fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// watch has the socket wake the parking, or not.
func (p *parking) watch(on bool) error {
	if on == p.watched {
		return nil
	}
	var events uint32
	if on {
		events = p.events
	}
	if err := p.control(unix.EPOLL_CTL_MOD, p.socket, events); err != nil {
		return err
	}
	p.watched = on
	return nil
}

// until calls try, which must not block, until it reports true, first at once
// and then each time that the socket may be ready. The error is
// os.ErrDeadlineExceeded.
func (p *parking) until(try func(uintptr) bool) error {
	if err := p.watch(true); err != nil {
		return err
	}
	return p.raw.Read(try)
}

// pause waits for a time, whatever the socket does meanwhile. It may end early.
func (p *parking) pause(d time.Duration) error {
	if err := p.watch(false); err != nil {
		return err
	}
	p.spec.Value = unix.NsecToTimespec(max(1, d.Nanoseconds()))
	p.pausing = true
	return p.raw.Read(p.paused)
}

// pauseOver sets the timer when it is called first, which is after Go's poller
// has forgotten earlier events, and ends the wait when it is called again.
func (p *parking) pauseOver(uintptr) bool {
	if !p.pausing {
		return true
	}
	p.pausing = false
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(p.timer), 0, uintptr(unsafe.Pointer(&p.spec)), 0, 0, 0)
	return errno != 0 // there is nothing to wait for then
}

// setDeadline sets when waits end with os.ErrDeadlineExceeded, also one that
// is under way.
func (p *parking) setDeadline(t time.Time) error { return p.file.SetReadDeadline(t) }

// free closes what newParking opened, and ends a wait that is under way.
func (p *parking) free() {
	switch {
	case p.file != nil:
		_ = p.file.Close()
	case p.epfd >= 0:
		_ = unix.Close(p.epfd)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range []*int{&p.timer, &p.waker} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}

// wakeOnce is what an eventfd is written: an 8-byte number (eventfd(2)).
var wakeOnce = binary.NativeEndian.AppendUint64(nil, 1)

// wake has until call try again, and ends a pause.
func (p *parking) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waker >= 0 {
		// Nobody reads it: each write is an edge of its own (epoll(7)).
		_, _ = unix.Write(p.waker, wakeOnce)
	}
}
