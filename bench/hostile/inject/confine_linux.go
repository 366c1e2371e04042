package inject

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// env has a process that calls ConfineByEnv be confined: numbers of system calls.
const env = "TAILFIN_TEST_INJECT"

// Env is what to add to the environment of a process that is to be confined.
func Env(calls ...int) string {
	text := make([]string, len(calls))
	for i, nr := range calls {
		text[i] = strconv.Itoa(nr)
	}
	return env + "=" + strings.Join(text, ",")
}

// ConfineByEnv is Confine as the environment says, nothing if it does not.
func ConfineByEnv() error {
	list := os.Getenv(env)
	if list == "" {
		return nil
	}
	var calls []int
	for text := range strings.SplitSeq(list, ",") {
		nr, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s=%q: %w", env, list, err)
		}
		calls = append(calls, nr)
	}
	return Confine(calls...)
}

// Confine has these system calls of all threads of this process, and of its children,
// wait for a Supervisor, for good.
//
//	load the number; each of the list: if it is this one, USER_NOTIF; else ALLOW (seccomp(2))
func Confine(calls ...int) error {
	const ret = unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for _, nr := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(nr)},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	// A signal, as Go's runtime sends to preempt, does not interrupt a call that the
	// supervisor has seen (WAIT_KILLABLE_RECV, Linux 5.19): each is one call to it. The
	// descriptor that is returned is closed by exec, and is for Attach to find.
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
