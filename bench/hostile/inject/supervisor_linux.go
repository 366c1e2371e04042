package inject

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Fault is what becomes of a system call.
type Fault struct {
	Call  int             // its number
	Match func(Call) bool // which of them; nil is all
	Skip  int             // how many of those to let pass first
	Errno unix.Errno      // how the following one fails
	Every bool            // and all after it

	seen, injected atomic.Int64
}

// Injected is how many calls have failed by it, and Seen how many there were that it
// matches.
func (f *Fault) Injected() int { return int(f.injected.Load()) }

// Seen is the number of calls that it matches, so far.
func (f *Fault) Seen() int { return int(f.seen.Load()) }

// meets tells whether a call is to fail. Only the supervisor's goroutine calls it.
func (f *Fault) meets(c Call) bool {
	if c.Number != f.Call || f.Match != nil && !f.Match(c) {
		return false
	}
	n := int(f.seen.Add(1))
	return n > f.Skip && (f.Every || f.injected.Load() == 0)
}

// A Call is one that waits for its answer.
type Call struct {
	Thread int // its ID
	Number int
	Args   [6]uint64
}

// File is what a descriptor is of that is an argument: a path, or the like of
// "socket:[1]" and "anon_inode:[io_uring]"; empty if it is not open.
func (c Call) File(arg int) string {
	to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.Thread, int32(c.Args[arg])))
	return to
}

// Text is the string that an argument points to.
func (c Call) Text(arg int) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.Thread))
	if err != nil {
		return ""
	}
	defer func() { _ = mem.Close() }()
	var b [unix.PathMax]byte
	// It may lie at the end of what is mapped.
	n, _ := mem.ReadAt(b[:], int64(c.Args[arg]))
	return unix.ByteSliceToString(b[:n])
}

// A Supervisor answers the system calls of a process that has confined itself.
type Supervisor struct {
	listener int
	wake     int // an eventfd, to end with
	done     chan struct{}
	err      error // of the end, before done is closed

	faults atomic.Pointer[[]*Fault]
	calls  atomic.Int64
	close  sync.Once
}

// attachTime bounds how long a process may take to confine itself.
const attachTime = time.Minute

// Attach waits until a process, a child of this one, has confined itself, and answers
// its calls from then on until it ends or Close. The faults are those of its first call
// on; Set changes them.
func Attach(pid int, faults ...*Fault) (*Supervisor, error) {
	deadline := time.Now().Add(attachTime)
	number := -1
	for number < 0 {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && to == "anon_inode:seccomp notify" {
				number, _ = strconv.Atoi(filepath.Base(f))
			}
		}
		if number < 0 && (len(files) == 0 || time.Now().After(deadline)) {
			return nil, fmt.Errorf("process %d has not confined itself", pid)
		}
		if number < 0 {
			time.Sleep(time.Millisecond)
		}
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	defer func() { _ = unix.Close(process) }()
	s := &Supervisor{done: make(chan struct{})}
	if s.listener, err = unix.PidfdGetfd(process, number, 0); err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		_ = unix.Close(s.listener)
		return nil, os.NewSyscallError("eventfd", err)
	}
	// The caller and the supervisor take turns (Linux 6.6); without it they do as well.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	s.Set(faults...)
	go func() {
		defer close(s.done)
		s.err = s.run()
	}()
	return s, nil
}

// Set replaces the faults. A call meets the first that matches it; what meets none
// is carried out.
func (s *Supervisor) Set(faults ...*Fault) { s.faults.Store(&faults) }

// Calls is the number of calls that were answered, of all kinds.
func (s *Supervisor) Calls() int { return int(s.calls.Load()) }

// Close ends the supervisor. A process that has not ended must be ended before: its
// calls would wait for ever.
func (s *Supervisor) Close() error {
	s.close.Do(func() {
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-s.done
		_ = unix.Close(s.wake)
		_ = unix.Close(s.listener)
	})
	return s.err
}

// notification is struct seccomp_notif, with its struct seccomp_data, and answer is
// struct seccomp_notif_resp (linux/seccomp.h).
type (
	notification struct {
		id     uint64
		thread uint32
		flags  uint32

		number      int32
		arch        uint32
		instruction uint64
		args        [6]uint64
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

// run answers calls until the process has ended.
func (s *Supervisor) run() error {
	poll := []unix.PollFd{{Fd: int32(s.listener), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return os.NewSyscallError("poll", err)
		}
		if poll[1].Revents != 0 || poll[0].Revents&unix.POLLIN == 0 {
			return nil // closed, or nobody is left who could call
		}
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		switch errno {
		case 0:
		case unix.ENOENT, unix.EINTR: // the caller was killed, or a signal was for us
			continue
		default:
			return os.NewSyscallError("ioctl", errno)
		}
		if err := s.reply(&n); err != nil {
			return err
		}
	}
}

// reply answers one call.
func (s *Supervisor) reply(n *notification) error {
	c := Call{Thread: int(n.thread), Number: int(n.number), Args: n.args}
	a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	var met *Fault
	for _, f := range *s.faults.Load() {
		if f.meets(c) {
			a.errno, a.flags, met = -int32(f.Errno), 0, f
			break
		}
	}
	// It counts before the caller can go on, and not if the caller was killed.
	s.calls.Add(1)
	if met != nil {
		met.injected.Add(1)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	switch errno {
	case 0:
		return nil
	case unix.ENOENT:
		if met != nil {
			met.injected.Add(-1)
		}
		return nil
	}
	return os.NewSyscallError("ioctl", errno)
}
