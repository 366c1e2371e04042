//go:build !nouring && (amd64 || arm64)

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/hostile/inject"
)

// envFiles has a program under test be allowed so many descriptors.
const envFiles = "TAILFIN_TEST_NOFILE"

func init() {
	if os.Getenv(asTailfin) == "" {
		return
	}
	if n, err := strconv.ParseUint(os.Getenv(envFiles), 10, 32); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			fmt.Fprintln(os.Stderr, "setrlimit:", err)
			os.Exit(exitFailed)
		}
	}
	if err := inject.ConfineByEnv(); err != nil {
		fmt.Fprintln(os.Stderr, "confine:", err)
		os.Exit(exitFailed)
	}
}

// A supervised daemon is one whose system calls may fail.
type supervised struct {
	*observed
	*inject.Supervisor
	rest int // descriptors that it has while it does nothing
}

// launchSupervised starts a daemon of which these calls may fail, from the first
// on. It is not waited for.
func launchSupervised(t *testing.T, faults []*inject.Fault, calls []int, args ...string) (*daemon, *inject.Supervisor) {
	t.Helper()
	d := launch(t, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, inject.Env(calls...))
		cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	}, append([]string{"--admin", "127.0.0.1:0", "--shards", "1"}, args...)...)
	s, err := inject.Attach(d.cmd.Process.Pid, faults...)
	if err != nil {
		t.Skipf("cannot supervise system calls here: %v: %s", err, d.log)
	}
	t.Cleanup(func() {
		s.Set()
		_ = d.cmd.Process.Kill()
		<-d.done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, s
}

func serveSupervised(t *testing.T, calls []int, args ...string) *supervised {
	t.Helper()
	d, s := launchSupervised(t, nil, calls, args...)
	d.awaitReady(t)
	o := observe(t, d)
	_, _ = o.page(t, "/readyz")
	http.DefaultClient.CloseIdleConnections()
	return &supervised{observed: o, Supervisor: s, rest: o.settledFiles(t)}
}

// files is how many descriptors a daemon has.
func (d *daemon) files() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	return len(list)
}

// settledFiles is how many it has when that does not change any more.
func (d *daemon) settledFiles(t *testing.T) int {
	t.Helper()
	last, same := -1, 0
	eventually(t, "descriptors settle", func() bool {
		n := d.files()
		if n != last {
			last, same = n, 0
		}
		same++
		return same > 5
	})
	return last
}

// leaked is how many more descriptors it has than before, once it has closed what it will.
func (d *daemon) leaked(before int) int {
	for range 500 {
		if d.files() <= before {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
	return d.files() - before
}

// sinkCalls are those of the folder that a sink is, but for those errnos that say
// something of the name (EEXIST, EISDIR, ENAMETOOLONG, ENOTEMPTY: 400).
var sinkCalls = []struct {
	name   string
	call   int
	errnos []unix.Errno
	named  bool // the file may have its name by then
}{
	{"openat", unix.SYS_OPENAT, []unix.Errno{unix.EACCES, unix.EDQUOT, unix.EINTR, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSPC, unix.EPERM, unix.EROFS}, false},
	{"write", unix.SYS_WRITE, []unix.Errno{unix.EBADF, unix.EDQUOT, unix.EFBIG, unix.EINTR, unix.EINVAL, unix.EIO, unix.ENOSPC, unix.EPERM}, false},
	{"fdatasync", unix.SYS_FDATASYNC, []unix.Errno{unix.EBADF, unix.EDQUOT, unix.EINTR, unix.EINVAL, unix.EIO, unix.ENOSPC, unix.EROFS}, false},
	{"renameat", unix.SYS_RENAMEAT, []unix.Errno{unix.EACCES, unix.EBUSY, unix.EDQUOT, unix.EINTR, unix.EINVAL, unix.EIO, unix.ENOMEM, unix.ENOSPC, unix.EPERM, unix.EROFS, unix.EXDEV}, false},
	{"fsync of the folder", unix.SYS_FSYNC, []unix.Errno{unix.EBADF, unix.EDQUOT, unix.EINTR, unix.EINVAL, unix.EIO, unix.ENOSPC, unix.EROFS}, true},
	{"unlinkat", unix.SYS_UNLINKAT, []unix.Errno{unix.EACCES, unix.EBUSY, unix.EINTR, unix.EIO, unix.ENOMEM, unix.EPERM, unix.EROFS}, false},
	{"flock", unix.SYS_FLOCK, []unix.Errno{unix.EINTR, unix.EINVAL, unix.ENOLCK}, false},
	{"newfstatat", sysNewfstatat, []unix.Errno{unix.EACCES, unix.EIO, unix.ENOMEM}, false},
}

// TestHostileSinkCalls has the calls of a sink fail while it takes uploads. An upload is
// stored, whole and under its name, and answered 201; or it has no name, and a status of
// 500 or above. Afterwards all is as before.
func TestHostileSinkCalls(t *testing.T) {
	t.Parallel()
	var calls []int
	for _, c := range sinkCalls {
		calls = append(calls, c.call)
	}
	d := serveSupervised(t, calls)
	for _, c := range sinkCalls {
		// What is of the folder; the daemon opens and writes other files too.
		ours := func(call inject.Call) bool {
			switch call.Number {
			case unix.SYS_WRITE, unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_FLOCK:
				return strings.HasPrefix(call.File(0), d.dir)
			case unix.SYS_OPENAT:
				return call.Args[2]&unix.O_CREAT != 0 && strings.HasPrefix(call.File(0), d.dir)
			case sysNewfstatat:
				return strings.HasPrefix(call.Text(1), d.dir+"/") || strings.HasPrefix(call.File(0), d.dir)
			}
			return strings.HasPrefix(call.File(0), d.dir)
		}
		for _, every := range []bool{false, true} {
			mode := "once"
			if every {
				mode = "from then on"
			}
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				var names []string
				for _, e := range c.errnos {
					names = append(names, errnoName(e))
				}
				p := newDeposit(t, d.daemon, fmt.Sprintf("the sink's %s fails %s, with uploads: %s", c.name, mode, strings.Join(names, " ")))
				p.named = c.named
				refusals := 0
				for _, errno := range c.errnos {
					f := &inject.Fault{Call: c.call, Match: ours, Errno: errno, Every: every}
					faults := []*inject.Fault{f}
					if c.call == unix.SYS_UNLINKAT { // it is for what was not stored
						faults = append(faults, &inject.Fault{Call: unix.SYS_WRITE, Match: ours, Errno: unix.EIO, Every: true})
					}
					d.Set(faults...)
					_, refused := p.round()
					refusals += refused
					for rounds := 0; f.Injected() == 0 && rounds < 20; rounds++ {
						_, refused = p.round()
					}
					if f.Injected() == 0 {
						t.Errorf("%v: no call failed", errno)
					}
					if must := c.call != unix.SYS_UNLINKAT && c.call != unix.SYS_FLOCK && c.call != sysNewfstatat; every && must && refused != len(depositSizes) {
						t.Errorf("%v from then on: %d of %d uploads were refused", errno, refused, len(depositSizes))
					}
					if !every && errno == unix.EINTR && len(faults) == 1 && refused != 0 {
						t.Errorf("%d uploads were refused for a signal", refused)
					}
					d.Set()
					p.check()
					p.res.Tries += f.Injected()
				}
				if stored, _ := p.round(); stored != len(depositSizes) {
					t.Errorf("with all calls in order again %d of %d uploads are stored", stored, len(depositSizes))
				}
				p.check()
				_ = p.tr.Close()
				left, files := p.unfinished(), d.leaked(d.rest)
				p.res.Leaked = left + files
				if left+files > 0 {
					t.Errorf("%d files and %d descriptors are left", left, files)
				}
				p.res.Bound = fmt.Sprintf("201 %d, 500 %d, 503 %d, 507 %d (tailfin_sink_stores_total); %d of 201 whole",
					p.statuses[201], p.statuses[500], p.statuses[503], p.statuses[507], len(p.stored))
				p.res.Report(t)
				for name := range p.sizes {
					_ = os.Remove(filepath.Join(d.dir, name))
				}
			})
		}
	}
	d.waitReady(t, http.StatusOK)
	d.stop(t)
}

// TestHostileServeCalls has calls of the daemon fail under uploads: those of its socket
// for good, those of its threads at the start, and those of its admin address.
func TestHostileServeCalls(t *testing.T) {
	t.Parallel()
	needUring(t)
	for _, tc := range []struct {
		backend string
		call    int
		name    string
		errno   unix.Errno
		ends    bool
	}{
		{"auto", unix.SYS_IO_URING_ENTER, "io_uring_enter", unix.EBADF, false},
		{"uring", unix.SYS_IO_URING_ENTER, "io_uring_enter", unix.EPERM, true},
		{"mmsg", unix.SYS_RECVMMSG, "recvmmsg", unix.ENOMEM, true},
	} {
		t.Run(tc.backend, func(t *testing.T) {
			d := serveSupervised(t, []int{tc.call}, "--backend", tc.backend)
			p := newDeposit(t, d.daemon, fmt.Sprintf("serve --backend %s: %s fails from then on, under uploads: %s", tc.backend, tc.name, unix.ErrnoName(tc.errno)))
			if stored, _ := p.round(); stored != len(depositSizes) {
				t.Fatal("before any fault")
			}
			f := &inject.Fault{Call: tc.call, Errno: tc.errno, Every: true}
			if tc.ends {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+d.addr+"/cut", endless{})
				if err != nil {
					t.Fatal(err)
				}
				tr := newTransport(t)
				cut := make(chan error, 1)
				go func() { // an upload that is under way
					resp, err := tr.RoundTrip(req)
					if err == nil {
						_ = resp.Body.Close()
					}
					cut <- err
				}()
				eventually(t, "the upload is under way", func() bool {
					begun, _ := os.ReadDir(filepath.Join(d.dir, ".incoming"))
					return len(begun) > 0
				})
				d.Set(f)
				<-d.done
				state, err := d.cmd.Process.Wait()
				if err != nil || state.ExitCode() != exitFailed {
					t.Errorf("it has ended with %v, %v", state, err)
				}
				cancel() // nobody tells the client
				if log := d.log.String(); !strings.Contains(log, tc.name) || !strings.Contains(log, tc.errno.Error()) || !strings.Contains(log, "; ") {
					p.res.Lost++
					t.Errorf("it does not say what failed and what to do:\n%s", log)
				}
				if err := <-cut; err == nil {
					p.res.Lost++
					t.Error("the upload that was cut off has an answer")
				}
				p.check()
				p.res.Bound = fmt.Sprintf("it ends with exit code %d and says why after %d calls that failed; the upload under way has no name", state.ExitCode(), f.Injected())
			} else {
				d.Set(f)
				for rounds := 0; f.Injected() == 0 || rounds < 5; rounds++ {
					if stored, _ := p.round(); stored != len(depositSizes) || rounds > 500 {
						t.Fatalf("%d of %d uploads are stored, %d calls failed", stored, len(depositSizes), f.Injected())
					}
				}
				p.check()
				if n := d.lines("level=WARN", "io_uring failed"); n != 1 {
					t.Errorf("%d lines of the log say that the ring is lost, want 1:\n%s", n, d.log)
				}
				if _, text := d.page(t, "/metrics"); !strings.Contains(text, `reason="io_uring failed: `) {
					t.Error("no metric tells that the ring is lost")
				}
				p.res.Bound = fmt.Sprintf("%d uploads whole; one line of the log, and the label reason of tailfin_udp_backend_info", len(p.stored))
				d.stop(t)
			}
			p.res.Tries = f.Injected()
			p.res.Report(t)
		})
	}
}

// errnoName is the name of an errno that its manual pages have.
func errnoName(e unix.Errno) string {
	if e == unix.EOPNOTSUPP { // one number has two names
		return "EOPNOTSUPP"
	}
	return unix.ErrnoName(e)
}

// endless is a body without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestHostileSchedulerCalls has the scheduler refuse the slice that the daemon asks for.
func TestHostileSchedulerCalls(t *testing.T) {
	t.Parallel()
	errnos := []unix.Errno{unix.EPERM, unix.EINVAL, unix.ESRCH, unix.E2BIG, unix.EBUSY, unix.EFAULT}
	for _, c := range []struct {
		name string
		call int
	}{{"sched_setattr", unix.SYS_SCHED_SETATTR}, {"sched_getattr", unix.SYS_SCHED_GETATTR}} {
		for _, every := range []bool{false, true} {
			mode := "once"
			if every {
				mode = "from then on"
			}
			if every != (c.call == unix.SYS_SCHED_SETATTR) && hostile.Size(0, 1) == 0 {
				continue // each is a start of the daemon
			}
			res := hostile.Result{Kind: "kernel", Fault: fmt.Sprintf("%s fails %s at the start of serve", c.name, mode)}
			warned := 0
			for _, errno := range errnos[:hostile.Size(2, len(errnos))] {
				res.Fault += " " + errnoName(errno)
				f := &inject.Fault{Call: c.call, Errno: errno, Every: every}
				d, _ := launchSupervised(t, []*inject.Fault{f}, []int{c.call})
				d.awaitReady(t)
				p := newDeposit(t, d, "")
				if stored, _ := p.round(); stored != len(depositSizes) {
					res.Lost += len(depositSizes) - stored
				}
				p.check()
				// A thread that has ended meanwhile is no reason to warn.
				want := 1
				if errno == unix.ESRCH {
					want = 0
				}
				if n := d.lines("level=WARN", "did not take the slice", errno.Error()); n != want {
					t.Errorf("%v: %d warnings, want %d:\n%s", errno, n, want, d.log)
				}
				warned += d.lines("did not take the slice")
				if f.Injected() == 0 {
					t.Errorf("%v: no call failed", errno)
				}
				res.Tries += f.Injected()
				d.stop(t)
			}
			res.Bound = fmt.Sprintf("it serves without; %d warnings", warned)
			res.Report(t)
		}
	}
}

// TestHostileAccept has accept4 of the admin address fail: it goes on to be served.
func TestHostileAccept(t *testing.T) {
	t.Parallel()
	errnos := []unix.Errno{
		unix.EAGAIN, unix.ECONNABORTED, unix.EINTR, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EPERM, unix.EPROTO,
		unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH, unix.ETIMEDOUT,
	}
	d := serveSupervised(t, []int{unix.SYS_ACCEPT4})
	for _, times := range []int{1, 5} {
		res := hostile.Result{Kind: "kernel", Fault: fmt.Sprintf("accept4 of the admin address fails, %d times in a row:", times)}
		if times == 5 {
			errnos = errnos[:hostile.Size(8, len(errnos))] // net/http waits longer each time
		}
		for _, errno := range errnos {
			res.Fault += " " + errnoName(errno)
			n := 0
			f := &inject.Fault{Call: unix.SYS_ACCEPT4, Errno: errno, Every: true, Match: func(inject.Call) bool { n++; return n <= times }}
			d.Set(f)
			// What says that nothing is there is believed, and the next client wakes it.
			clients := 1
			if errno == unix.EAGAIN {
				clients = times
			}
			var conns []net.Conn
			for k := range clients {
				c, err := net.Dial("tcp", d.admin)
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
				eventually(t, "a call fails", func() bool { return f.Injected() > k })
			}
			if err := d.healthy(t); err != nil {
				res.Lost++
				t.Errorf("%v: %v", errno, err)
			}
			if f.Injected() != times {
				t.Errorf("%v: %d calls failed, want %d", errno, f.Injected(), times)
			}
			res.Tries += f.Injected()
			d.Set()
			for _, c := range conns {
				_ = c.Close()
			}
		}
		http.DefaultClient.CloseIdleConnections()
		res.Leaked = d.leaked(d.rest)
		if n := d.lines("admin address is not served"); n > 0 {
			res.Lost++
			t.Errorf("the log:\n%s", d.log)
		}
		res.Bound = "each request that came after is answered; net/http waits 5 ms, 10 ms … 1 s between"
		res.Report(t)
	}
	d.stop(t)
}

// healthy asks the admin address whether the daemon lives.
func (d *observed) healthy(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.admin+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
