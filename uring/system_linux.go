//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// A system is what works on the memory of a ring: the kernel, or what tests put in
// its place.
type system interface {
	// enter is io_uring_enter(2) that waits for nothing.
	enter(submit, flags uint32) (int, error)
	// register is io_uring_register(2).
	register(op uint8, arg unsafe.Pointer, n uint32) error
	// close ends the ring.
	close()
}

// A kernel is the ring that the kernel has for a descriptor.
type kernel int

// enter does not block, and Go's scheduler need not know of it: telling it costs
// more than the call, as it wakes the runtime's monitor thread out of its sleep
// (Go 1.26).
func (k kernel) enter(submit, flags uint32) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(k), uintptr(submit), 0, uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (k kernel) register(op uint8, arg unsafe.Pointer, n uint32) error {
	return unwrapErrno(iouring.IOURingRegister(int(k), op, arg, n))
}

func (k kernel) close() { _ = unix.Close(int(k)) }
