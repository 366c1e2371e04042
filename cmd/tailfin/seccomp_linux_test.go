//go:build !nouring && (amd64 || arm64)

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/udp"
)

// seccompProfile is the one for containers, and envSeccomp has a program under test
// run below the system calls that the variable lists.
const (
	seccompProfile = "../../scripts/seccomp/tailfin.json"
	envSeccomp     = "TAILFIN_TEST_SECCOMP"
)

func init() { confine = confineToSeccomp }

// confineToSeccomp forbids all system calls but those of the environment variable, if it is
// set, as a container engine does: the others fail with EPERM.
//
//	load the number; each of the list: if it is this one, ALLOW; else ERRNO|EPERM (seccomp(2))
func confineToSeccomp() error {
	list := os.Getenv(envSeccomp)
	if list == "" {
		return nil
	}
	const ret = unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for text := range strings.SplitSeq(list, ",") {
		nr, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(nr)},
			unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}

// systemCalls is this machine's numbers by name, from the headers of its C library.
func systemCalls(t *testing.T) map[string]int {
	t.Helper()
	headers, _ := filepath.Glob("/usr/include/*/asm/unistd_64.h")
	headers = append(headers, "/usr/include/asm-generic/unistd.h")
	define := regexp.MustCompile(`(?m)^#define __NR(?:3264)?_(\w+)\s+(\d+)`)
	for _, h := range headers {
		text, err := os.ReadFile(h)
		if err != nil {
			continue
		}
		numbers := make(map[string]int)
		for _, m := range define.FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			numbers[m[1]] = n
		}
		return numbers
	}
	t.Skip("needs the headers of the C library for the numbers of system calls (Debian package libc6-dev)")
	return nil
}

// permitted is the numbers of the calls that the profile permits, but for some.
func permitted(t *testing.T, but ...string) string {
	t.Helper()
	text, err := os.ReadFile(seccompProfile)
	if err != nil {
		t.Fatal(err)
	}
	var profile struct {
		DefaultAction string
		Syscalls      []struct {
			Names  []string
			Action string
		}
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		t.Fatal(err)
	}
	if profile.DefaultAction != "SCMP_ACT_ERRNO" {
		t.Errorf("by default the profile does %s", profile.DefaultAction)
	}
	numbers := systemCalls(t)
	var list []string
	for _, group := range profile.Syscalls {
		if group.Action != "SCMP_ACT_ALLOW" {
			t.Errorf("a group does %s", group.Action)
		}
		for _, name := range group.Names {
			// One that another machine has is ignored, as engines do.
			if n, ok := numbers[name]; ok && !slices.Contains(but, name) {
				list = append(list, fmt.Sprint(n))
			}
		}
	}
	return strings.Join(list, ",")
}

// TestSeccompProfile runs the daemon and a client below the profile for containers.
func TestSeccompProfile(t *testing.T) {
	uring := []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}
	file, sum := writeFile(t, 1<<20)
	for _, tc := range []struct {
		name    string
		but     []string
		backend string
	}{
		{"as it is", nil, "uring"},
		{"with io_uring forbidden, as engines do", uring, "mmsg"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.backend == "uring" {
				needUring(t)
			}
			t.Setenv(envSeccomp, permitted(t, tc.but...))
			d := serve(t)
			if !strings.Contains(d.log.String(), "backend="+tc.backend) {
				t.Errorf("want backend=%s:\n%s", tc.backend, d.log)
			}
			if r := runTailfin(t, "put", file, "https://"+d.addr+"/x", "--insecure"); r.code != exitOK {
				t.Fatalf("put: %+v", r)
			}
			if r := runTailfin(t, "get", "https://"+d.addr+"/x", "--insecure", "--json"); !strings.Contains(r.stdout, sum) {
				t.Errorf("get: %+v", r)
			}
			d.stop(t)
		})
	}
}

// needUring skips where Auto finds no io_uring for another reason than the profile.
func needUring(t *testing.T) {
	t.Helper()
	report, err := udp.Probe()
	if err != nil {
		t.Fatal(err)
	}
	if !report.URing {
		t.Skip("needs io_uring: ", report.URingBlocker)
	}
}
