//go:build !nouring && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64)

package udp

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// envSeccomp has a test process forbid itself a system call, as a container's
// seccomp profile does: "number errno".
const envSeccomp = "TAILFIN_TEST_SECCOMP"

// forbid makes a system call fail with errno in all threads of this process, for good.
//
//	load the number; if it is this one, return ERRNO|errno, else ALLOW (seccomp(2))
func forbid(number, errno uint32) error {
	const ret = unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// A thread may only filter itself if it can gain no privileges any more, and
	// TSYNC passes that on to the others.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// TestSeccompChild is the other process of TestSeccomp. It prints what Auto
// does, and what Uring by name does.
func TestSeccompChild(t *testing.T) {
	number, errno, ok := strings.Cut(os.Getenv(envSeccomp), " ")
	if !ok {
		return // run as a test of its own it has nothing to do
	}
	nr, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	code, err := strconv.ParseUint(errno, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	if err := forbid(uint32(nr), uint32(code)); err != nil {
		t.Fatal(err)
	}
	c, err := Listen("udp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("auto failed:", err)
	} else {
		s := dial(t, c)
		_, _ = s.Write([]byte("through"))
		fmt.Printf("auto: %s: %s: %s\n", c.Backend(), collect(t, c, 1)[0], c.Reason())
		_ = c.Close()
	}
	_, err = Listen("udp", "127.0.0.1:0", WithBackend(Uring))
	fmt.Println("uring:", err)
}

// TestSeccomp runs where a filter answers for io_uring's system calls.
func TestSeccomp(t *testing.T) {
	needUring(t, Uring)
	for _, tc := range []struct {
		name   string
		number uint32
		errno  unix.Errno
		auto   string // what Auto's line must have
		uring  string // and what the error of Uring by name must
	}{
		{"setup EPERM", unix.SYS_IO_URING_SETUP, unix.EPERM, "auto: mmsg: through: io_uring is blocked by a seccomp profile (EPERM); using recvmmsg", "permit io_uring_setup"},
		{"setup ENOSYS", unix.SYS_IO_URING_SETUP, unix.ENOSYS, "auto: mmsg: through: io_uring_setup does not exist", "use Linux 6.1 or later, and permit io_uring"},
		{"register EPERM", unix.SYS_IO_URING_REGISTER, unix.EPERM, "auto: mmsg: through: io_uring is blocked by a seccomp profile", "permit io_uring_setup"},
		{"register EINVAL", unix.SYS_IO_URING_REGISTER, unix.EINVAL, "auto: mmsg: through: the kernel's io_uring is too old", "use Linux 6.1"},
		{"register ENOMEM", unix.SYS_IO_URING_REGISTER, unix.ENOMEM, "auto failed: udp: io_uring: register buffer ring: cannot allocate memory", "cannot allocate memory"},
		{"enter EPERM", unix.SYS_IO_URING_ENTER, unix.EPERM, "auto: mmsg: through: io_uring is blocked by a seccomp profile (EPERM)", "permit io_uring_setup, io_uring_enter"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSeccompChild$", "-test.v")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", envSeccomp, tc.number, int(tc.errno)))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, want := range []string{tc.auto, tc.uring} {
				if !strings.Contains(string(out), want) {
					t.Errorf("want %q in:\n%s", want, out)
				}
			}
		})
	}
}
