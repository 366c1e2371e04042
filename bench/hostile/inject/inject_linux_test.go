package inject

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asChild has this program be the one under test.
const asChild = "TAILFIN_TEST_INJECT_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	if err := ConfineByEnv(); err != nil {
		fmt.Println("cannot confine:", err)
		os.Exit(1)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fd, err := unix.Openat(unix.AT_FDCWD, lines.Text(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			_ = unix.Close(fd)
		}
		var errno unix.Errno
		errors.As(err, &errno)
		fmt.Println(int(errno))
	}
	os.Exit(0)
}

// TestFaults has a child open files, and fail to.
func TestFaults(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), asChild+"=1", Env(unix.SYS_OPENAT, unix.SYS_FCNTL))
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := Attach(cmd.Process.Pid)
	if err != nil {
		text := make([]byte, 200)
		n, _ := out.Read(text)
		t.Skipf("cannot supervise system calls here: %v: %s", err, text[:n])
	}
	lines := bufio.NewScanner(out)
	open := func(name string) unix.Errno {
		t.Helper()
		fmt.Fprintln(in, name)
		if !lines.Scan() {
			t.Fatal("the child has ended")
		}
		var errno int
		if _, err := fmt.Sscan(lines.Text(), &errno); err != nil {
			t.Fatal(lines.Text())
		}
		return unix.Errno(errno)
	}
	want := func(name string, errno unix.Errno) {
		t.Helper()
		if got := open(name); got != errno {
			t.Errorf("%s: %v, want %v", name, got, errno)
		}
	}
	want("/dev/null", 0)
	once := &Fault{Call: unix.SYS_OPENAT, Errno: unix.EMFILE, Skip: 1, Match: func(c Call) bool { return c.Text(1) == "/dev/null" }}
	file := &Fault{Call: unix.SYS_FCNTL, Errno: unix.EIO, Every: true, Match: func(c Call) bool { return strings.HasSuffix(c.File(0), "/zero") }}
	s.Set(once, file)
	want("/dev/null", 0)
	want("/dev/full", 0)
	want("/dev/null", unix.EMFILE)
	want("/dev/null", 0)
	for range 3 {
		want("/dev/zero", unix.EIO)
	}
	s.Set()
	want("/dev/zero", 0)
	if once.Injected() != 1 || once.Seen() != 3 || file.Injected() != 3 {
		t.Errorf("%d of %d, and %d", once.Injected(), once.Seen(), file.Injected())
	}
	if s.Calls() < 15 {
		t.Errorf("%d calls", s.Calls())
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
