//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Supported tells whether this build has io_uring at all.
const Supported = true

// disabledSysctl is a variable for tests.
var disabledSysctl = "/proc/sys/kernel/io_uring_disabled"

// explain turns the error of a set-up into a BlockedError if io_uring is
// blocked for good, and leaves any other error as it is.
func explain(err error) error {
	blocked := func(reason, remedy string) error {
		return &BlockedError{Reason: reason, Remedy: remedy, Err: err}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		// The sysctl is of 6.6. 1 admits a group and CAP_SYS_ADMIN, 2 nobody.
		b, readErr := os.ReadFile(disabledSysctl)
		if v := strings.TrimSpace(string(b)); readErr == nil && v != "0" {
			return blocked("io_uring is disabled by kernel.io_uring_disabled="+v, "sysctl -w kernel.io_uring_disabled=0")
		}
		return blocked("io_uring is blocked by a seccomp profile (EPERM)",
			"permit io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile")
	case errors.Is(err, unix.EACCES):
		return blocked("io_uring is blocked by a security module (EACCES)",
			"permit the class io_uring in the SELinux or other LSM policy of the service")
	case errors.Is(err, unix.ENOSYS):
		return blocked("io_uring_setup does not exist: the kernel lacks io_uring, or a seccomp profile hides it (ENOSYS)",
			"use Linux "+MinKernel+" or later, and permit io_uring in the container's seccomp profile")
	case errors.Is(err, unix.EINVAL):
		return blocked(fmt.Sprintf("the kernel's io_uring is too old (%v); Linux %s is needed", err, MinKernel),
			"use Linux "+MinKernel+" or later")
	}
	return err
}

// Blocker returns nil if a ring can be set up here, a *BlockedError if
// something blocks it, and any other error as it is. That a ring can be set up
// is no proof yet that it receives.
func Blocker() error {
	r, err := newRing(0)
	if err != nil {
		return explain(err)
	}
	r.free()
	b, err := newBufRing(1, 64)
	if err != nil {
		return err
	}
	b.unmap()
	return nil
}
