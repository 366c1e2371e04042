//go:build (amd64 || arm64) && !nouring

package udp

import (
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// TestHostileWaitCalls has the calls fail by which a reader waits, and which the user of
// a Conn makes meanwhile: epoll_ctl and timerfd_settime of ours, epoll_pwait of Go's
// runtime, getsockopt of Stats.
func TestHostileWaitCalls(t *testing.T) {
	t.Parallel()
	p := startHostile(t, unix.SYS_EPOLL_CTL, unix.SYS_TIMERFD_SETTIME, unix.SYS_EPOLL_PWAIT, unix.SYS_GETSOCKOPT)
	ours := func(c inject.Call) bool { return strconv.Itoa(int(c.Args[0])) != p.poller }
	for _, tc := range []struct {
		call   int
		match  func(inject.Call) bool
		errnos []unix.Errno
		harm   bool // it ends a read unless it passes
	}{
		{unix.SYS_EPOLL_CTL, ours, []unix.Errno{
			unix.ENOMEM, unix.ENOSPC, unix.EBADF, unix.EEXIST, unix.EINVAL, unix.ELOOP, unix.ENOENT, unix.EPERM}, true},
		{unix.SYS_TIMERFD_SETTIME, nil, []unix.Errno{unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ECANCELED}, false},
		// Go's runtime (1.26) ends the process after any other: EBADF, EFAULT, EINVAL.
		{unix.SYS_EPOLL_PWAIT, nil, []unix.Errno{unix.EINTR}, false},
		{unix.SYS_GETSOCKOPT, nil, []unix.Errno{unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOPROTOOPT, unix.ENOTSOCK}, false},
	} {
		for _, every := range []bool{false, true} {
			mode := "once"
			switch {
			case every && tc.call == unix.SYS_EPOLL_PWAIT:
				mode = "200 times in a row"
			case every:
				mode = "from then on"
			}
			name := callNames[tc.call][0]
			p.run(name+"/"+mode, func(t *testing.T) {
				r := &receiving{hostileParent: p, call: tc.call, res: hostile.Result{
					Kind: "kernel", Fault: fmt.Sprintf("%s fails %s: %s", name, mode, errnoNames(tc.errnos)),
				}}
				errnos := tc.errnos
				if every {
					errnos = withoutSlow(errnos)
				}
				for _, errno := range errnos {
					to := p.listen(Auto)
					match := tc.match
					if every && tc.call == unix.SYS_EPOLL_PWAIT {
						n := 0
						match = func(inject.Call) bool { n++; return n <= 200 }
					}
					f := &inject.Fault{Call: tc.call, Match: match, Errno: errno, Every: every}
					p.Set(f)
					bursts, want := 0, 1
					if every {
						want = 10
					}
					for ; bursts < hostileTries && f.Injected() < want && (f.Injected() == 0 || bursts < 20); bursts++ {
						p.burst(to, hostileBurst)
						got := r.read(errno, hostileBurst, 1, hostilePatience)
						ends := 0
						if tc.harm && (every || !momentary(errno)) {
							ends = 1
						}
						if f.Injected() > 0 && len(got.Errs) != ends {
							t.Errorf("%s: %d errors, want %d: %+v", unix.ErrnoName(errno), len(got.Errs), ends, got.Errs)
						}
						if len(got.Errs) > 0 {
							break
						}
					}
					if f.Injected() == 0 {
						t.Errorf("%s: no call failed in %d bursts", unix.ErrnoName(errno), bursts)
					}
					r.most = max(r.most, f.Injected())
					r.settle(errno)
					r.res.Tries += f.Injected()
				}
				r.res.Bound = fmt.Sprintf("%d datagrams, in order; %d calls failed at most before an end", r.datagrams, r.most)
				r.res.Report(t)
			})
		}
	}
}

// withoutSlow is, but in a full run, without what lasts a second each.
func withoutSlow(errnos []unix.Errno) (quick []unix.Errno) {
	for i, e := range errnos {
		if hostile.Size(0, 1) == 1 || i == 0 || !momentary(e) {
			quick = append(quick, e)
		}
	}
	return quick
}
