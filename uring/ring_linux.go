//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// sqEntries is the size of the submission ring. A ring here has few requests
// under way: one receive, one wake-up, one cancellation.
const sqEntries = 8

// A ring is one io_uring: a submission ring, a completion ring, and a little
// memory that the kernel reads. It belongs to the thread that enabled it, and
// only that thread may call submit and wait.
type ring struct {
	fd int

	mem     []byte // both rings, one mapping (IORING_FEAT_SINGLE_MMAP, 5.4)
	sqeMem  []byte
	argMem  []byte // geteventsArg and kernelTimespec
	arg     *geteventsArg
	timeout *kernelTimespec

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

// newRing sets up a ring that is disabled until enable, with room for at least
// completions.
func newRing(completions int) (*ring, error) {
	params := iouring.IOURingParams{
		Flags: iouring.IORING_SETUP_CQSIZE | iouring.IORING_SETUP_CLAMP | iouring.IORING_SETUP_R_DISABLED |
			iouring.IORING_SETUP_SUBMIT_ALL | setupSingleIssuer | setupDeferTaskrun,
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
	if r.argMem, err = mapAnonymous(int(unsafe.Sizeof(geteventsArg{}) + unsafe.Sizeof(kernelTimespec{}))); err != nil {
		return err
	}
	r.arg = (*geteventsArg)(unsafe.Pointer(&r.argMem[0]))
	r.timeout = (*kernelTimespec)(unsafe.Pointer(&r.argMem[unsafe.Sizeof(geteventsArg{})]))
	r.arg.ts = uint64(uintptr(unsafe.Pointer(r.timeout)))

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

// enable makes the calling thread the owner.
func (r *ring) enable() error {
	if err := r.register(iouring.IORING_REGISTER_ENABLE_RINGS, nil, 0); err != nil {
		return fmt.Errorf("enable io_uring: %w", err)
	}
	return nil
}

// submission returns the next free submission, zeroed. The few requests of a
// Receiver never fill the ring.
func (r *ring) submission() *iouring.SubmissionQueueEntry64 {
	sqe := &r.sqes[r.tail&r.sqMask]
	sqe.Reset()
	r.tail++
	r.queued++
	return sqe
}

// wait submits what is queued, runs the work that completions are waiting for,
// and returns once one is there or the timeout is over. A negative timeout is
// none; zero does not wait. A timeout and a signal are no errors.
func (r *ring) wait(timeout time.Duration) error {
	r.sqTail.Store(r.tail)
	var want uint32 = 1
	flags := enterGetEvents
	arg, argLen := unsafe.Pointer(nil), uintptr(0)
	switch {
	case timeout == 0:
		want = 0
	case timeout > 0:
		r.timeout.sec, r.timeout.nsec = int64(timeout/time.Second), int64(timeout%time.Second)
		flags |= enterExtArg
		arg, argLen = unsafe.Pointer(r.arg), unsafe.Sizeof(geteventsArg{})
	}
	n, err := enter(r.fd, r.queued, want, flags, arg, argLen)
	r.queued -= uint32(n)
	switch {
	case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ETIME):
		return nil
	case errors.Is(err, unix.EBUSY):
		// The completion ring is full and more wait behind it: consuming makes
		// room (io_uring_enter(2), IORING_FEAT_NODROP).
		return nil
	}
	return fmt.Errorf("io_uring_enter: %w", err)
}

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

// peek returns the i-th visible completion without taking it.
func (r *ring) peek(i uint32) *iouring.CompletionQueueEvent16 {
	return &r.cqes[(r.head+i)&r.cqMask]
}

func (r *ring) advance() {
	r.head++
	r.cqHead.Store(r.head)
}

// overflowed tells that completions wait in the kernel for room; the next wait
// brings them.
func (r *ring) overflowed() bool { return r.sqFlags.Load()&sqCQOverflow != 0 }

// free gives everything back.
func (r *ring) free() {
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
	for _, m := range []*[]byte{&r.mem, &r.sqeMem, &r.argMem} {
		unmap(m)
	}
}
