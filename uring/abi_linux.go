//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What include/uapi/linux/io_uring.h defines and iouring-go's syscall package
// (2023-04) does not. The kernel version is the first that has it.

// enterGetEvents has io_uring_enter(2) bring completions that overran the ring.
const enterGetEvents uint32 = 1 << 0

// Opcodes of io_uring_register(2).
const registerPbufRing uint8 = 22 // 5.19

// Flags of a submission.
const (
	sqeBufferSelect uint8  = 1 << 5 // 5.7
	recvMultishot   uint16 = 1 << 1 // in ioprio; 6.0
)

// Flags of a completion.
const (
	cqeFBuffer uint32 = 1 << 0 // the upper 16 bits hold a buffer ID
	cqeFMore   uint32 = 1 << 1 // the request goes on
)

// sqCQOverflow, in the flags of the submission ring, tells that completions
// wait in the kernel for room in the completion ring (5.8).
const sqCQOverflow uint32 = 1 << 1

// Offsets for mmap(2) of a ring.
const (
	offSQRing = 0
	offSQEs   = 0x10000000
)

// bufReg is struct io_uring_buf_reg.
type bufReg struct {
	ringAddr    uint64
	ringEntries uint32
	bgid        uint16
	flags       uint16
	_           [3]uint64
}

// buf is struct io_uring_buf. In the first one of a ring, resv is the tail.
type buf struct {
	addr uint64
	len  uint32
	bid  uint16
	resv uint16
}

// recvmsgOut is struct io_uring_recvmsg_out. It starts each filled buffer and
// is followed by room for the name, the control data and the payload, each at
// the offset that the requested lengths give, however long it is.
type recvmsgOut struct {
	namelen    uint32
	controllen uint32
	payloadlen uint32
	flags      uint32
}

const recvmsgOutLen = int(unsafe.Sizeof(recvmsgOut{}))

// mapAnonymous returns zeroed memory outside of Go's heap, whole pages of it.
// The kernel keeps addresses in it for longer than a system call.
func mapAnonymous(size int) ([]byte, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return m, os.NewSyscallError("mmap", err)
}

// unmap gives a mapping back, if there is one.
func unmap(m *[]byte) {
	if *m != nil {
		_ = unix.Munmap(*m)
		*m = nil
	}
}
