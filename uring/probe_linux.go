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

// Probe tries, step by step, what a Receiver needs. It opens no network socket.
func Probe() Capabilities {
	c := Capabilities{Supported: true}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		c.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	c.Blocked = c.try()
	return c
}

func (c *Capabilities) try() error {
	r, err := newRing(2)
	if err != nil {
		return explain(err)
	}
	c.Setup = true
	b, err := newBufRing(1, 64)
	if err == nil {
		err = b.register(r)
		b.unmap()
	}
	r.free()
	if err != nil {
		return explain(err)
	}
	c.BufferRing = true
	if err := tryReceive(); err != nil {
		return explain(err)
	}
	c.Multishot = true
	return nil
}

// tryReceive takes two datagrams off a socket pair by one call, and wants the
// end of the queue told.
func tryReceive() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer func() {
		_ = unix.Close(pair[0])
		_ = unix.Close(pair[1])
	}()
	r, err := NewReceiver(Config{Buffers: 4, Payload: 64})
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	sent := []string{"one", "two"}
	for _, d := range sent {
		if _, err := unix.Write(pair[1], []byte(d)); err != nil {
			return os.NewSyscallError("write", err)
		}
	}
	if err := r.Receive(pair[0]); err != nil {
		return err
	}
	for _, want := range sent {
		d, ok := r.Next()
		if !ok || string(d.Payload) != want {
			return blockedByAge(fmt.Errorf("multishot recvmsg brought %q, %v", d.Payload, ok))
		}
		r.Recycle(d)
	}
	if _, more := r.Next(); more || !r.Drained() {
		return blockedByAge(errors.New("multishot recvmsg did not tell the end of the queue"))
	}
	return nil
}

// blockedByAge is for a kernel that takes a request and does something else.
func blockedByAge(err error) error {
	return &BlockedError{
		Reason: fmt.Sprintf("the kernel's io_uring is too old: %v; Linux %s is needed", err, MinKernel),
		Remedy: "use Linux " + MinKernel + " or later", Err: err,
	}
}

// Blocker returns nil if a Receiver works here, a *BlockedError if something
// blocks io_uring for good, and any other error as it is.
func Blocker() error { return Probe().Blocked }
