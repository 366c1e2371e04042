//go:build (amd64 || arm64) && !nouring

package udp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
	"github.com/tailfin-quic/tailfin/uring"
)

// openCalls are those that Listen and Close make, with the errnos of their manual
// pages, and of udp(7), ip(7) and seccomp profiles.
var openCalls = []struct {
	call   int
	errnos []unix.Errno
}{
	{unix.SYS_SOCKET, []unix.Errno{unix.EACCES, unix.EAFNOSUPPORT, unix.EINVAL, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EPROTONOSUPPORT}},
	{unix.SYS_BIND, []unix.Errno{unix.EACCES, unix.EADDRINUSE, unix.EADDRNOTAVAIL, unix.EBADF, unix.EINVAL, unix.ENOBUFS, unix.ENOMEM, unix.ENOTSOCK, unix.EPERM}},
	{unix.SYS_GETSOCKNAME, []unix.Errno{unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOBUFS, unix.ENOTSOCK}},
	{unix.SYS_SETSOCKOPT, []unix.Errno{unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOBUFS, unix.ENOMEM, unix.ENOPROTOOPT, unix.ENOTSOCK, unix.EPERM}},
	{unix.SYS_GETSOCKOPT, []unix.Errno{unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOPROTOOPT, unix.ENOTSOCK}},
	{unix.SYS_FCNTL, []unix.Errno{unix.EBADF, unix.EINVAL, unix.EMFILE, unix.EPERM}},
	{unix.SYS_EPOLL_CREATE1, []unix.Errno{unix.EINVAL, unix.EMFILE, unix.ENFILE, unix.ENOMEM}},
	{unix.SYS_EPOLL_CTL, []unix.Errno{unix.EBADF, unix.EEXIST, unix.EINVAL, unix.ELOOP, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EPERM}},
	{unix.SYS_TIMERFD_CREATE, []unix.Errno{unix.EINVAL, unix.EMFILE, unix.ENFILE, unix.ENODEV, unix.ENOMEM, unix.EPERM}},
	{unix.SYS_EVENTFD2, []unix.Errno{unix.EINVAL, unix.EMFILE, unix.ENFILE, unix.ENODEV, unix.ENOMEM}},
	{unix.SYS_IO_URING_SETUP, []unix.Errno{unix.EACCES, unix.EFAULT, unix.EINVAL, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSYS, unix.EPERM}},
	{unix.SYS_IO_URING_REGISTER, []unix.Errno{unix.EACCES, unix.EBADF, unix.EBADFD, unix.EBUSY, unix.EEXIST, unix.EFAULT, unix.EINVAL, unix.ENOMEM, unix.ENOSYS, unix.ENXIO, unix.EOPNOTSUPP, unix.EPERM}},
	{unix.SYS_IO_URING_ENTER, enterErrnos},
	{unix.SYS_MMAP, []unix.Errno{unix.EACCES, unix.EAGAIN, unix.EBADF, unix.EINVAL, unix.ENFILE, unix.ENODEV, unix.ENOMEM, unix.EOVERFLOW, unix.EPERM}},
	{unix.SYS_MUNMAP, []unix.Errno{unix.EINVAL, unix.ENOMEM}},
	{unix.SYS_SENDMSG, []unix.Errno{unix.EACCES, unix.ENOBUFS, unix.EPERM}}, // of the self-test
}

// ofUDP tells the calls that this package and package uring make, and package net for
// them, from those of Go's runtime for itself.
func (p *hostileParent) ofUDP(c inject.Call) bool {
	switch c.Number {
	case unix.SYS_EPOLL_CTL:
		return strconv.Itoa(int(c.Args[0])) != p.poller
	case unix.SYS_MMAP:
		if c.Args[3]&unix.MAP_ANONYMOUS == 0 {
			return strings.Contains(c.File(4), "io_uring")
		}
		return c.Args[0] == 0 && ofRing(c.Args[1])
	case unix.SYS_MUNMAP:
		return ofRing(c.Args[1])
	}
	return true
}

// ofRing tells the lengths of a Receiver's mappings. The runtime asks for more than a
// page, and not for just so much as buffers are.
func ofRing(length uint64) bool {
	page := uint64(unix.Getpagesize())
	buffers := uint64(uring.DefaultBuffers * (uring.DefaultPayload + uring.DefaultControl))
	return length <= page || length > buffers && length < buffers+4*page
}

// An opening is what came of Conns that were opened while one call failed.
type opening struct {
	*hostileParent
	res            hostile.Result
	errors, opened int
}

// open has the child open a Conn. What it opens must work, and what it does not open
// must leave nothing. It tells whether the fault was met.
func (o *opening) open(ord order, f *inject.Fault) bool {
	o.t.Helper()
	if !ord.Fresh { // the self-test of a machine in order comes first
		o.do(order{Do: "listen", Fresh: true})
		o.do(order{Do: "close"})
	}
	ord.Do = "listen"
	o.Set(f)
	r := o.do(ord)
	closing := f.Call == unix.SYS_MUNMAP
	if !closing {
		o.Set()
	}
	what := fmt.Sprintf("%s: %s, after %d", callNames[f.Call][0], unix.ErrnoName(f.Errno), f.Skip)
	if r.Addr == "" {
		o.errors++
		if len(r.Errs) != 1 {
			o.t.Fatalf("%s: %+v", what, r)
		}
		e := r.Errs[0]
		// The runtime tells only that it has failed when its own fcntl does.
		vague := f.Call == unix.SYS_FCNTL && strings.Contains(e.Text, "network poller")
		if !vague && !e.names(f.Call, f.Errno) {
			o.t.Errorf("%s: the error does not say what failed and why: %s", what, e.Text)
		}
		if !vague && momentary(f.Errno) && !e.advises() {
			o.t.Errorf("%s: the error does not say what to do: %s", what, e.Text)
		}
		if f.Injected() == 0 {
			o.t.Errorf("%s: %s", what, e.Text)
		}
	} else {
		o.opened++
		// SetReadBuffer may have failed, which says so and harms nothing.
		for _, e := range r.Errs {
			if f.Call != unix.SYS_SETSOCKOPT || !e.names(f.Call, f.Errno) {
				o.t.Errorf("%s: %+v", what, e)
			}
		}
		io := f.Call == unix.SYS_IO_URING_SETUP || f.Call == unix.SYS_IO_URING_REGISTER || f.Call == unix.SYS_IO_URING_ENTER
		if io && f.Every && f.Injected() > 0 && (r.Backend != Mmsg || !(failure{Text: r.Reason}).names(f.Call, f.Errno)) {
			o.t.Errorf("%s: it does not say why it goes without io_uring: %s: %s", what, r.Backend, r.Reason)
		}
		o.next = 0
		o.burst(o.addr(r), 8)
		if got := o.do(order{Do: "read", Count: 8, Wait: hostilePatience}); got.Good != 8 || len(got.Errs) > 0 {
			o.res.Lost += 8 - got.Good
			o.res.Corrupt += got.Wrong
			o.t.Errorf("%s: it was opened and does not work: %+v", what, got)
		}
	}
	o.close(&o.res)
	o.Set()
	o.res.Tries += f.Injected()
	return f.Injected() > 0
}

// TestHostileOpenCalls has each call of Listen fail, the first, the second and so on,
// and from each on, with each errno. In a usual run it is one of them for each errno.
func TestHostileOpenCalls(t *testing.T) {
	t.Parallel()
	needUring(t, Uring)
	calls := make([]int, 0, len(openCalls))
	for _, c := range openCalls {
		calls = append(calls, c.call)
	}
	p := startHostile(t, calls...)
	for _, c := range openCalls {
		for _, every := range []bool{false, true} {
			mode := "once"
			if every {
				mode = "from then on"
			}
			name := callNames[c.call][0]
			p.run(name+"/"+mode, func(t *testing.T) {
				o := &opening{hostileParent: p, res: hostile.Result{
					Kind: "kernel", Fault: fmt.Sprintf("%s at open and close fails %s:", name, mode),
				}}
				before := p.do(order{Do: "state"})
				for i, errno := range c.errnos {
					if hostile.Size(0, 1) == 0 && (i%2 == 0) == every && len(c.errnos) > 2 {
						continue // one of the two modes in a usual run
					}
					o.res.Fault += " " + errnoNames([]unix.Errno{errno})
					for v, ord := range []order{{Fresh: true}, {Fresh: true, Backend: Uring}, {}} {
						fault := func(skip int) *inject.Fault {
							return &inject.Fault{Call: c.call, Match: p.ofUDP, Errno: errno, Every: every, Skip: skip}
						}
						switch full := hostile.Size(0, 1) == 1; {
						case full: // until there is no such call any more
							for skip := 0; o.open(ord, fault(skip)); skip++ {
							}
						case v == i%3 && !o.open(ord, fault(i%4)):
							o.open(ord, fault(0))
						}
					}
				}
				// The self-test of what follows is that of a machine in order.
				after := p.do(order{Do: "listen", Fresh: true})
				if len(after.Errs) > 0 || after.Backend != Uring {
					t.Errorf("with all calls in order again: %+v", after)
				}
				p.close(&o.res)
				after = p.do(order{Do: "state"})
				o.res.Bound = fmt.Sprintf("%d refused by an error that names the call, %d opened and working; %d descriptors before and %d after, %d mappings and %d",
					o.errors, o.opened, before.FDs, after.FDs, before.Maps, after.Maps)
				if o.res.Tries == 0 {
					t.Errorf("%s was never called", name)
				}
				o.res.Report(t)
			})
		}
	}
}
