//go:build (amd64 || arm64) && !nouring

package udp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// What calls that receive can say: recv(2), recvmmsg(2), ip(7), udp(7),
// io_uring_enter(2), and a seccomp profile.
var (
	receiveErrnos = []unix.Errno{
		unix.EAGAIN, unix.EINTR, unix.ENOMEM, unix.ENOBUFS,
		unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EPROTO,
		unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOTCONN, unix.ENOTSOCK, unix.EPERM, unix.EACCES, unix.ENOSYS,
	}
	enterErrnos = []unix.Errno{
		unix.EAGAIN, unix.EINTR, unix.EBUSY, unix.ENOMEM, unix.ENOBUFS,
		unix.EBADF, unix.EBADFD, unix.EBADR, unix.EEXIST, unix.EFAULT, unix.EINVAL, unix.ENXIO, unix.EOPNOTSUPP, unix.EOWNERDEAD,
		unix.EPERM, unix.EACCES, unix.ENOSYS, unix.ECANCELED,
	}
)

const (
	hostileBurst = 64 // datagrams that wait in the socket when a read begins: more than one call takes
	hostileTries = 200
)

// passesOnce tells the errnos of a receive that must not be noticed when they come once.
func passesOnce(call int, backend Backend, errno unix.Errno) bool {
	if call == unix.SYS_IO_URING_ENTER {
		return backend == Auto || momentary(errno) || errno == unix.EINTR
	}
	return momentary(errno) || errno == unix.EINTR || transient(errno)
}

// A receiving is one backend whose call fails.
type receiving struct {
	*hostileParent
	call    int
	backend Backend
	res     hostile.Result

	datagrams int
	rate      float64 // calls a second while they fail, the most
	most      int     // calls that failed before the reader gave up, or the fault was lifted
	lostRings int
	failed    uint64
}

// read has the child read what waits, and checks that it is what was sent.
func (r *receiving) read(errno unix.Errno, count, errs int, wait time.Duration) report {
	r.t.Helper()
	got := r.do(order{Do: "read", Count: count, Errors: errs, Wait: wait})
	r.datagrams += got.Good
	r.res.Corrupt += got.Wrong
	for _, f := range got.Errs {
		if f.Timeout && errno == unix.EAGAIN {
			continue
		}
		if f.Timeout {
			r.res.Lost += count - got.Good
			r.t.Errorf("%s: %d of %d datagrams came", unix.ErrnoName(errno), got.Good, count)
			continue
		}
		if !f.names(r.call, errno) || f.Errno != errno || !f.advises() {
			r.t.Errorf("the error does not say what failed, why, and what to do: %+v", f)
		}
		if f.Temporary {
			r.t.Errorf("quic-go would read again at once: %+v", f)
			r.res.Crashed++
		}
	}
	return got
}

// untilMet sends bursts and has them read until the fault is met.
func (r *receiving) untilMet(f *inject.Fault, errs int, wait time.Duration) (last report) {
	r.t.Helper()
	to := r.listen(r.backend)
	for range 2 {
		r.burst(to, hostileBurst)
		if got := r.read(0, hostileBurst, 1, hostilePatience); len(got.Errs) > 0 || got.Good != hostileBurst {
			r.t.Fatalf("before any fault: %+v", got)
		}
	}
	if r.backend == Auto && r.call == unix.SYS_RECVMMSG {
		// It is the call of a reader that is idle: of the next one that comes.
		if got := r.do(order{Do: "read", Count: 1, Wait: 20 * time.Millisecond}); countFailures(got) > 0 || got.Good > 0 {
			r.t.Fatalf("nothing was sent: %+v", got)
		}
		f.Skip = 0
	}
	r.Set(f)
	for i := range hostileTries {
		r.burst(to, hostileBurst)
		last = r.read(f.Errno, hostileBurst, errs, wait)
		if i > 10 && f.Injected() == 0 {
			// Auto leaves the ring when it once finds nothing.
			last = r.read(f.Errno, 1, errs, 20*time.Millisecond)
		}
		if f.Injected() > 0 {
			break
		}
	}
	if f.Injected() == 0 {
		r.t.Errorf("%v: no call failed in %d bursts", f.Errno, hostileTries)
	}
	return last
}

// once has one call fail with each errno.
func (r *receiving) once(errnos []unix.Errno) {
	for i, errno := range errnos {
		f := &inject.Fault{Call: r.call, Errno: errno, Skip: i % 3}
		wait := hostilePatience
		if errno == unix.EAGAIN {
			wait = 100 * time.Millisecond // it says that nothing is there, and so the next datagram wakes the reader
		}
		got := r.untilMet(f, 2, wait)
		want := 1
		if passesOnce(r.call, r.backend, errno) {
			want = 0
		}
		if n := countFailures(got); n != want {
			r.t.Errorf("%s once: %d errors, want %d: %+v", unix.ErrnoName(errno), n, want, got.Errs)
		}
		r.settle(errno)
		r.res.Tries += f.Injected()
	}
}

// countFailures counts errors that are no deadline.
func countFailures(r report) (n int) {
	for _, f := range r.Errs {
		if !f.Timeout {
			n++
		}
	}
	return n
}

// settle lifts the fault, sends once more, and has everything be there.
func (r *receiving) settle(errno unix.Errno) {
	r.t.Helper()
	r.Set()
	state := r.do(order{Do: "state"})
	to := r.addr(state)
	r.burst(to, hostileBurst)
	// All that was sent but what has been read.
	missing := int(r.next) - int(state.Stats.Datagrams)
	got := r.read(0, missing, 1, hostilePatience)
	if len(got.Errs) > 0 || got.Good != missing || got.Stats.KernelDrops != 0 {
		r.t.Errorf("%s: after it %d of %d datagrams came: %+v", unix.ErrnoName(errno), got.Good, missing, got)
		r.res.Lost += missing - got.Good
	}
	r.failed += got.Stats.Failed
	if strings.HasPrefix(got.Reason, "io_uring failed: ") {
		r.lostRings++
	}
	r.close(&r.res)
}

// every has all calls fail with each errno, from one on.
func (r *receiving) every(errnos []unix.Errno) {
	for i, errno := range errnos {
		f := &inject.Fault{Call: r.call, Errno: errno, Skip: i % 3, Every: true}
		wait := hostilePatience
		if errno == unix.EAGAIN && r.call != unix.SYS_IO_URING_ENTER {
			wait = 100 * time.Millisecond // looks like a socket that gets nothing
		}
		began := time.Now()
		got := r.untilMet(f, 1, wait)
		r.rate = max(r.rate, float64(f.Injected())/time.Since(began).Seconds())
		r.most = max(r.most, f.Injected())
		// A lasting fault ends the read, but for Auto, which has another way.
		auto := r.call == unix.SYS_IO_URING_ENTER && r.backend == Auto
		silent := errno == unix.EAGAIN && r.call != unix.SYS_IO_URING_ENTER
		switch n := countFailures(got); {
		case (auto || silent) && n != 0:
			r.t.Errorf("%s from then on: %+v", unix.ErrnoName(errno), got.Errs)
		case !auto && !silent && n == 0:
			r.t.Errorf("%s from then on, and no error: %+v", unix.ErrnoName(errno), got)
		}
		if auto && !momentary(errno) && (got.Backend != Mmsg || !strings.HasPrefix(got.Reason, "io_uring failed: ") || !strings.Contains(got.Reason, errno.Error())) {
			r.t.Errorf("%s: %s: %s", unix.ErrnoName(errno), got.Backend, got.Reason)
		}
		// A second is given to what may pass, a millisecond between tries; what a signal
		// interrupts and what peers have caused is repeated 64 times.
		if bound := maxShort + 8; f.Injected() > bound {
			r.t.Errorf("%s: %d calls failed, more than %d: it spins", unix.ErrnoName(errno), f.Injected(), bound)
			r.res.Crashed++
		}
		r.settle(errno)
		r.res.Tries += f.Injected()
	}
}

// TestHostileReceiveCalls has each call that receives fail in the middle of traffic,
// with each errno, once and from then on.
func TestHostileReceiveCalls(t *testing.T) {
	t.Parallel()
	needUring(t, Uring)
	p := startHostile(t, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_IO_URING_ENTER)
	quick := slices.DeleteFunc(slices.Clone(receiveErrnos), func(e unix.Errno) bool { return e != unix.EAGAIN && momentary(e) })
	quickEnter := slices.DeleteFunc(slices.Clone(enterErrnos), func(e unix.Errno) bool { return momentary(e) })
	for _, tc := range []struct {
		call        int
		backend     Backend
		once, every []unix.Errno
	}{
		{unix.SYS_RECVMSG, Msg, receiveErrnos, quick},
		{unix.SYS_RECVMMSG, Mmsg, receiveErrnos, append(slices.Clone(quick), unix.ENOMEM, unix.ENOBUFS)},
		{unix.SYS_RECVMMSG, Auto, receiveErrnos, quick},
		{unix.SYS_IO_URING_ENTER, Uring, enterErrnos, append(slices.Clone(quickEnter), unix.EAGAIN, unix.ENOMEM, unix.EBUSY)},
		{unix.SYS_IO_URING_ENTER, Auto, enterErrnos, enterErrnos},
	} {
		every := tc.every
		if hostile.Size(0, 1) == 0 { // without most of those that take a second each
			every = slices.DeleteFunc(slices.Clone(every), func(e unix.Errno) bool {
				return tc.backend != Auto && momentary(e) && e != unix.ENOMEM && (e != unix.EAGAIN || tc.backend == Uring)
			})
		}
		for _, mode := range []struct {
			name   string
			errnos []unix.Errno
			run    func(*receiving, []unix.Errno)
		}{
			{"once", tc.once, (*receiving).once},
			{"from then on", every, (*receiving).every},
		} {
			name := callNames[tc.call][0]
			p.run(fmt.Sprintf("%s/%s/%s", name, tc.backend, mode.name), func(t *testing.T) {
				r := &receiving{hostileParent: p, call: tc.call, backend: tc.backend, res: hostile.Result{
					Kind:  "kernel",
					Fault: fmt.Sprintf("%s of backend %s fails %s: %s", name, tc.backend, mode.name, errnoNames(mode.errnos)),
				}}
				mode.run(r, mode.errnos)
				r.res.Bound = fmt.Sprintf("%d datagrams, in order; %d calls failed at most before an end, %.0f/s; Stats.Failed %d", r.datagrams, r.most, r.rate, r.failed)
				if mode.name == "once" {
					r.res.Bound = fmt.Sprintf("%d datagrams, in order; Stats.Failed %d", r.datagrams, r.failed)
				}
				if r.backend == Auto && r.call == unix.SYS_IO_URING_ENTER {
					r.res.Bound += fmt.Sprintf("; Stats.Reason tells of %d rings lost", r.lostRings)
				}
				r.res.Report(t)
			})
		}
	}
}
