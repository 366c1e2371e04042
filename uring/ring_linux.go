//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// sqEntries is the size of the submission ring. A ring here has one request
// under way, within one system call.
const sqEntries = 1

// A ring is one io_uring: a submission ring and a completion ring. Any thread
// may use it, one at a time.
type ring struct {
	fd int

	mem    []byte // both rings, one mapping (IORING_FEAT_SINGLE_MMAP, 5.4)
	sqeMem []byte

	sqTail  *atomic.Uint32
	sqFlags *atomic.Uint32
	sqMask  uint32
	sqes    []iouring.SubmissionQueueEntry64
	tail    uint32 // of the submission ring; published by submit
	queued  uint32 // submissions that the kernel has not taken

	cqHead *atomic.Uint32
	cqTail *atomic.Uint32
	cqMask uint32
	cqes   []iouring.CompletionQueueEvent16
	head   uint32 // of the completion ring
}

// newRing sets up a ring with room for at least completions. It needs none of
// the flags that tie a ring to a thread or put work off (SINGLE_ISSUER,
// DEFER_TASKRUN, COOP_TASKRUN): no request is left under way by the call that
// submits it.
func newRing(completions int) (*ring, error) {
	params := iouring.IOURingParams{
		Flags:     iouring.IORING_SETUP_CQSIZE | iouring.IORING_SETUP_CLAMP,
		CQEntries: uint32(max(completions, 2*sqEntries)),
	}
	fd, err := iouring.IOURingSetup(sqEntries, &params)
	if err != nil {
		return nil, fmt.Errorf("io_uring_setup: %w", unwrapErrno(err))
	}
	unix.CloseOnExec(fd)
	r := &ring{fd: fd}
	if err := r.mapRings(&params); err != nil {
		r.free()
		return nil, err
	}
	return r, nil
}

// unwrapErrno drops the name that iouring-go gives its system calls.
func unwrapErrno(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}

func (r *ring) mapRings(p *iouring.IOURingParams) error {
	if p.Features&iouring.IORING_FEAT_SINGLE_MMAP == 0 || p.Features&iouring.IORING_FEAT_NODROP == 0 {
		return fmt.Errorf("io_uring: the kernel lacks features of 5.5: %w", unix.ENOSYS)
	}
	size := max(p.SQOffset.Array+p.SQEntries*4, p.CQOffset.Cqes+p.CQEntries*uint32(unsafe.Sizeof(iouring.CompletionQueueEvent16{})))
	var err error
	if r.mem, err = unix.Mmap(r.fd, offSQRing, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map rings: %w", err)
	}
	sqeSize := int(p.SQEntries) * int(unsafe.Sizeof(iouring.SubmissionQueueEntry64{}))
	if r.sqeMem, err = unix.Mmap(r.fd, offSQEs, sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map submissions: %w", err)
	}

	word := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqTail, r.sqFlags, r.sqMask = word(p.SQOffset.Tail), word(p.SQOffset.Flags), word(p.SQOffset.RingMask).Load()
	r.cqHead, r.cqTail, r.cqMask = word(p.CQOffset.Head), word(p.CQOffset.Tail), word(p.CQOffset.RingMask).Load()
	r.sqes = unsafe.Slice((*iouring.SubmissionQueueEntry64)(unsafe.Pointer(&r.sqeMem[0])), p.SQEntries)
	r.cqes = unsafe.Slice((*iouring.CompletionQueueEvent16)(unsafe.Pointer(&r.mem[p.CQOffset.Cqes])), p.CQEntries)
	// Slot i of the array always names submission i.
	array := unsafe.Slice((*uint32)(unsafe.Pointer(&r.mem[p.SQOffset.Array])), p.SQEntries)
	for i := range array {
		array[i] = uint32(i)
	}
	return nil
}

// register is io_uring_register(2).
func (r *ring) register(op uint8, arg unsafe.Pointer, n uint32) error {
	return unwrapErrno(iouring.IOURingRegister(r.fd, op, arg, n))
}

// submission returns the next free submission, zeroed.
func (r *ring) submission() *iouring.SubmissionQueueEntry64 {
	sqe := &r.sqes[r.tail&r.sqMask]
	sqe.Reset()
	r.tail++
	r.queued++
	return sqe
}

// submit hands what is queued to the kernel, which carries it out before it
// returns. It also brings completions that overran the ring before, if any did.
func (r *ring) submit() error {
	r.sqTail.Store(r.tail)
	var flags uint32
	if r.overflowed() {
		flags = enterGetEvents
	}
	for interrupts := 0; ; interrupts++ {
		n, err := enter(r.fd, r.queued, flags)
		r.queued -= uint32(n)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR) && interrupts < maxInterrupts:
			continue
		case errors.Is(err, unix.EBUSY) && r.pending() > 0:
			// The completion ring is full and more wait behind it: consuming makes
			// room (io_uring_enter(2), IORING_FEAT_NODROP).
			return nil
		}
		return fmt.Errorf("io_uring_enter: %w", err)
	}
}

// maxInterrupts is how often in a row a call is repeated that a signal has
// interrupted: one that never gets through must not keep its caller for good.
const maxInterrupts = 64

// next returns the next completion that is visible, nil if there is none. It
// is valid until advance.
func (r *ring) next() *iouring.CompletionQueueEvent16 {
	if r.head == r.cqTail.Load() {
		return nil
	}
	return &r.cqes[r.head&r.cqMask]
}

// pending is the number of completions that are visible.
func (r *ring) pending() uint32 { return r.cqTail.Load() - r.head }

func (r *ring) advance() {
	r.head++
	r.cqHead.Store(r.head)
}

// overflowed tells that completions wait in the kernel for room; the next
// submit brings them.
func (r *ring) overflowed() bool { return r.sqFlags.Load()&sqCQOverflow != 0 }

// free gives everything back.
func (r *ring) free() {
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
	for _, m := range []*[]byte{&r.mem, &r.sqeMem} {
		unmap(m)
	}
}
