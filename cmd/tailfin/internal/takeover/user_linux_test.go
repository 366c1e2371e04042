package takeover

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asNobody runs f on a thread of another user, whose the sockets are that f makes.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to be another user")
	}
	const keep, nobody = ^uintptr(0), 65534
	become := func(uid uintptr) syscall.Errno {
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep)
		return errno
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if errno := become(nobody); errno != 0 {
		t.Fatal(errno)
	}
	defer func() {
		if errno := become(0); errno != 0 {
			panic(errno)
		}
	}()
	f()
}

// seqpacket is a socket of the thread's user.
func seqpacket(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
	}
	return fd
}

// TestOtherUser has another user take the name of the control socket, and speak to
// an instance. Neither keeps it from serving, and the latter gets no keys.
func TestOtherUser(t *testing.T) {
	probe := begin(t, settings{Address: "127.0.0.1:0", Shards: 1})
	addr := probe.l.Addr()
	name := &unix.SockaddrUnix{Name: lockName("udp", addr)}
	asNobody(t, func() {
		fd := seqpacket(t)
		defer unix.Close(fd)
		if err := unix.Connect(fd, name); err != nil {
			t.Error(err)
		}
		_, _ = unix.Write(fd, []byte(fmt.Sprintf(`h{"version":%d,"takeover":true}`, protocolVersion)))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
		buf := make([]byte, maxMessage)
		n, err := unix.Read(fd, buf)
		for err == unix.EINTR { // a read with a timeout is not begun again (signal(7))
			n, err = unix.Read(fd, buf)
		}
		if n != 0 && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("it got %q, %v", buf[:max(n, 0)], err)
		}
	})
	ask(t, newClient(t), addr.String(), probe)
	if err := probe.end(); err != nil {
		t.Error(err)
	}

	var squat int
	asNobody(t, func() {
		squat = seqpacket(t)
		if err := errors.Join(unix.Bind(squat, name), unix.Listen(squat, 1)); err != nil {
			t.Error(err)
		}
	})
	defer unix.Close(squat)
	for _, address := range []string{addr.String(), "127.0.0.1:0"} {
		in := begin(t, settings{Address: address, Shards: 2, Takeover: true})
		ask(t, newClient(t), in.l.Addr().String(), in)
	}
	// They do not share the port unnoticed either.
	start := time.Now()
	if _, err := open(settings{Address: addr.String(), Shards: 1, Takeover: true}, testCert(t)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestStopped asks an instance that is stopped (SIGSTOP). It neither hands over nor
// yields for one that has given up, and goes on when it is continued.
func TestStopped(t *testing.T) {
	first := start(t, settings{Address: "127.0.0.1:0", Shards: 2, Steering: true})
	held := begin(t, settings{Address: first.addr, Shards: 2, Steering: true, Takeover: true, Hold: true})
	pid := first.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := held.l.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d does not yield", pid)) {
		t.Errorf("ready beside a stopped instance: %v", err)
	}
	if err := held.end(); err != nil {
		t.Error(err)
	}
	if _, err := open(settings{Address: first.addr, Shards: 2, Takeover: true}, testCert(t)); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a stopped instance: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if gen, err := put(t.Context(), newClient(t), first.addr, nil, 0); err != nil || gen != first.generation {
			t.Errorf("generation %d, %v", gen, err)
		}
	}
	begin(t, settings{Address: first.addr, Shards: 2, Steering: true, Takeover: true})
	first.ended()
}
