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
	sys system // nil once it is closed

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
	r := &ring{sys: kernel(fd)}
	if err := r.mapRings(fd, &params); err != nil {
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

func (r *ring) mapRings(fd int, p *iouring.IOURingParams) error {
	if p.Features&iouring.IORING_FEAT_SINGLE_MMAP == 0 || p.Features&iouring.IORING_FEAT_NODROP == 0 {
		return fmt.Errorf("io_uring: the kernel lacks features of 5.5: %w", unix.ENOSYS)
	}
	var err error
	if r.mem, err = unix.Mmap(fd, offSQRing, ringSize(p), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map rings: %w", err)
	}
	if r.sqeMem, err = unix.Mmap(fd, offSQEs, int(p.SQEntries)*sqeLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map submissions: %w", err)
	}
	r.lay(p)
	return nil
}

const (
	sqeLen = int(unsafe.Sizeof(iouring.SubmissionQueueEntry64{}))
	cqeLen = int(unsafe.Sizeof(iouring.CompletionQueueEvent16{}))
)

// ringSize is the length of the memory that both rings share.
func ringSize(p *iouring.IOURingParams) int {
	return max(int(p.SQOffset.Array+p.SQEntries*4), int(p.CQOffset.Cqes)+int(p.CQEntries)*cqeLen)
}

// lay finds the parts of the rings in their memory.
func (r *ring) lay(p *iouring.IOURingParams) {
	word := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqTail, r.sqFlags = word(p.SQOffset.Tail), word(p.SQOffset.Flags)
	r.cqHead, r.cqTail = word(p.CQOffset.Head), word(p.CQOffset.Tail)
	r.sqes = unsafe.Slice((*iouring.SubmissionQueueEntry64)(unsafe.Pointer(&r.sqeMem[0])), p.SQEntries)
	r.cqes = unsafe.Slice((*iouring.CompletionQueueEvent16)(unsafe.Pointer(&r.mem[p.CQOffset.Cqes])), p.CQEntries)
	r.sqMask, r.cqMask = p.SQEntries-1, p.CQEntries-1 // both are powers of two
	r.tail, r.head = r.sqTail.Load(), r.cqHead.Load()
	// Slot i of the array always names submission i.
	array := unsafe.Slice((*uint32)(unsafe.Pointer(&r.mem[p.SQOffset.Array])), p.SQEntries)
	for i := range array {
		array[i] = uint32(i)
	}
}

// submission returns the submission to fill, zeroed: the one that the kernel has not
// taken, or a new one.
func (r *ring) submission() *iouring.SubmissionQueueEntry64 {
	if r.queued == 0 {
		r.tail++
		r.queued++
	}
	sqe := &r.sqes[(r.tail-1)&r.sqMask]
	sqe.Reset()
	return sqe
}

// maxInterrupts is how many times in a row io_uring_enter(2) may be interrupted. It
// waits for nothing, and so is hardly ever.
const maxInterrupts = 64

// submit hands what is queued to the kernel, which carries it out before it
// returns. It also brings completions that overran the ring before, if any did.
func (r *ring) submit() error {
	r.sqTail.Store(r.tail)
	var flags uint32
	if r.overflowed() {
		flags = enterGetEvents
	}
	for range maxInterrupts {
		n, err := r.sys.enter(r.queued, flags)
		switch {
		case err == nil && n > int(r.queued):
			err = fmt.Errorf("%w: it took %d submissions of %d", ErrInconsistent, n, r.queued)
			r.queued = 0
			return err
		case err == nil:
			r.queued -= uint32(n)
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EBUSY) && r.pending() > 0:
			// The completion ring is full and more wait behind it: consuming makes
			// room (io_uring_enter(2), IORING_FEAT_NODROP).
			return nil
		}
		return fmt.Errorf("io_uring_enter: %w", err)
	}
	return fmt.Errorf("io_uring_enter: %d times in a row: %w", maxInterrupts, unix.EINTR)
}

// next returns the oldest completion. There must be one, and it is valid until
// advance.
func (r *ring) next() *iouring.CompletionQueueEvent16 { return &r.cqes[r.head&r.cqMask] }

// pending is the number of completions that are visible. More than the ring holds
// cannot be.
func (r *ring) pending() uint32 { return r.cqTail.Load() - r.head }

// size is the number of completions that the ring holds.
func (r *ring) size() uint32 { return uint32(len(r.cqes)) }

func (r *ring) advance() {
	r.head++
	r.cqHead.Store(r.head)
}

// overflowed tells that completions wait in the kernel for room; the next
// submit brings them.
func (r *ring) overflowed() bool { return r.sqFlags.Load()&sqCQOverflow != 0 }

// free gives everything back.
func (r *ring) free() {
	if r.sys != nil {
		r.sys.close()
		r.sys = nil
	}
	for _, m := range []*[]byte{&r.mem, &r.sqeMem} {
		unmap(m)
	}
}
