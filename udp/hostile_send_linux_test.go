//go:build (amd64 || arm64) && !nouring

package udp

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// sendErrnos are what sendmsg(2), ip(7) and udp(7) have.
var sendErrnos = []unix.Errno{
	unix.EAGAIN, unix.EINTR, unix.ENOBUFS, unix.ENOMEM,
	unix.EACCES, unix.EALREADY, unix.EBADF, unix.ECONNREFUSED, unix.ECONNRESET, unix.EDESTADDRREQ, unix.EFAULT, unix.EHOSTUNREACH,
	unix.EINVAL, unix.EIO, unix.EISCONN, unix.EMSGSIZE, unix.ENETDOWN, unix.ENETUNREACH, unix.ENOTCONN, unix.ENOTSOCK,
	unix.EOPNOTSUPP, unix.EPERM, unix.EPIPE,
}

// hostileWrites is how many datagrams are written at a time: more than may fail in a
// row for want of memory.
const hostileWrites = maxFailures + 16

// A sending is what came of writes.
type sending struct {
	*hostileParent
	res              hostile.Result
	arrived, dropped int
	most             int
}

// write has the child write, and wants to arrive, once and whole and in order, what it
// was told of that it was written and that was not counted as dropped.
func (s *sending) write(errs int, wait time.Duration) report {
	s.t.Helper()
	before := s.do(order{Do: "state"}).Stats
	got := s.do(order{Do: "write", Count: hostileWrites, Errors: errs, Wait: wait, To: s.peer.LocalAddr().String()})
	dropped := int(got.Stats.SendDrops - before.SendDrops)
	// A drop is no error, but for the last of too many in a row.
	for _, f := range got.Errs {
		if f.Errno == unix.ENOBUFS || f.Errno == unix.ENOMEM {
			dropped--
		}
	}
	want, last := got.Good-dropped, int64(-1)
	b := make([]byte, 2000)
	for n := 0; ; n++ {
		patience := hostilePatience
		if n >= want {
			patience = 5 * time.Millisecond // for what should not come
		}
		_ = s.peer.SetReadDeadline(time.Now().Add(patience))
		size, err := s.peer.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if n < want {
				s.res.Lost += want - n
				s.t.Errorf("%d of %d datagrams arrived that were written", n, want)
			}
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		seq, whole := numberOf(b[:size])
		if !whole || int64(seq) <= last || n >= want {
			s.res.Corrupt++
			s.t.Errorf("datagram %d of %d bytes after %d, whole: %v; %d were written", seq, size, last, whole, want)
		}
		last = int64(seq)
		s.arrived++
	}
	s.dropped += dropped
	return got
}

// TestHostileSendCalls has sendmsg fail with each errno, once and from then on. The
// package has no other call that sends.
func TestHostileSendCalls(t *testing.T) {
	t.Parallel()
	p := startHostile(t, unix.SYS_SENDMSG, unix.SYS_SENDTO, unix.SYS_SENDMMSG, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL)
	never := []*inject.Fault{
		{Call: unix.SYS_SENDTO, Skip: math.MaxInt},
		{Call: unix.SYS_SENDMMSG, Skip: math.MaxInt},
	}
	for _, every := range []bool{false, true} {
		mode := "once"
		if every {
			mode = "from then on"
		}
		p.run("sendmsg/"+mode, func(t *testing.T) {
			s := &sending{hostileParent: p, res: hostile.Result{
				Kind: "kernel", Fault: fmt.Sprintf("sendmsg fails %s: %s", mode, errnoNames(sendErrnos)),
			}}
			for i, errno := range sendErrnos {
				p.listen(Auto)
				if got := s.write(1, hostilePatience); len(got.Errs) > 0 || got.Good != hostileWrites {
					t.Fatalf("before any fault: %+v", got)
				}
				f := &inject.Fault{Call: unix.SYS_SENDMSG, Errno: errno, Skip: i % 3, Every: every}
				p.Set(append(never, f)...)
				wait, want, errs := hostilePatience, 1, 2
				switch short := errno == unix.ENOBUFS || errno == unix.ENOMEM; {
				case every && errno == unix.EAGAIN:
					wait = 50 * time.Millisecond // a send buffer that is full for good
				case every:
					errs = 1
				case errno == unix.EAGAIN, errno == unix.EINTR, short:
					want = 0
				}
				got := s.write(errs, wait)
				full := every && errno == unix.EAGAIN && len(got.Errs) > 0 // each write waits for its deadline
				if len(got.Errs) != want && !full {
					t.Errorf("%s %s: %d errors, want %d: %+v", unix.ErrnoName(errno), mode, len(got.Errs), want, got.Errs)
				}
				for _, e := range got.Errs {
					if timeout := every && errno == unix.EAGAIN; e.Timeout != timeout || !timeout && (!e.names(unix.SYS_SENDMSG, errno) || e.Errno != errno) {
						t.Errorf("%s %s: %+v", unix.ErrnoName(errno), mode, e)
					}
				}
				s.most = max(s.most, f.Injected())
				s.res.Tries += f.Injected()
				p.Set(never...)
				if got := s.write(1, hostilePatience); len(got.Errs) > 0 || got.Good != hostileWrites {
					t.Errorf("after %s: %+v", unix.ErrnoName(errno), got)
				}
				p.close(&s.res)
			}
			if s.most > 2*maxFailures {
				s.res.Crashed++
				t.Errorf("%d calls failed where %d should be enough: it spins", s.most, 2*maxFailures)
			}
			s.res.Bound = fmt.Sprintf("%d datagrams arrived as written, Stats.SendDrops (tailfin_udp_send_drops_total) %d; at most %d calls failed before an error; sendto and sendmmsg: %d calls",
				s.arrived, s.dropped, s.most, never[0].Seen()+never[1].Seen())
			s.res.Report(t)
			if never[0].Seen()+never[1].Seen() > 0 {
				t.Error("there is another call that sends, which is not tried here")
			}
		})
	}
	// A full send buffer where there is no descriptor to wait with.
	p.run("waiting", func(t *testing.T) {
		s := &sending{hostileParent: p, res: hostile.Result{Kind: "kernel", Fault: "a full send buffer, and epoll_create1 or epoll_ctl fails: EMFILE ENFILE ENOMEM ENOSPC"}}
		for _, tc := range []struct {
			call  int
			errno unix.Errno
		}{
			{unix.SYS_EPOLL_CREATE1, unix.EMFILE}, {unix.SYS_EPOLL_CREATE1, unix.ENFILE}, {unix.SYS_EPOLL_CREATE1, unix.ENOMEM},
			{unix.SYS_EPOLL_CTL, unix.ENOMEM}, {unix.SYS_EPOLL_CTL, unix.ENOSPC},
		} {
			p.listen(Auto)
			n := 0
			full := &inject.Fault{Call: unix.SYS_SENDMSG, Errno: unix.EAGAIN, Every: true, Match: func(inject.Call) bool { n++; return n > 5 && n < 10 }}
			f := &inject.Fault{Call: tc.call, Errno: tc.errno, Every: true}
			p.Set(full, f)
			if got := s.write(1, hostilePatience); len(got.Errs) > 0 || got.Good != hostileWrites {
				t.Errorf("%s: %+v", unix.ErrnoName(tc.errno), got)
			}
			if f.Injected() == 0 || full.Injected() != 4 {
				t.Errorf("%s: failed %d times, the buffer was full %d times", unix.ErrnoName(tc.errno), f.Injected(), full.Injected())
			}
			s.res.Tries += f.Injected()
			p.Set()
			p.close(&s.res)
		}
		s.res.Bound = fmt.Sprintf("%d datagrams arrived as written; the writer looks each millisecond", s.arrived)
		s.res.Report(t)
	})
}
