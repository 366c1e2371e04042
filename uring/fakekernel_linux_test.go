//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"unsafe"

	iouring "github.com/iceber/iouring-go/syscall"
	"golang.org/x/sys/unix"
)

// A fakeKernel works on the memory of a ring as the kernel does, for the one request
// that a Receiver makes, and lies where a test has it lie.
type fakeKernel struct {
	t testing.TB

	ring   *ring    // of which only the memory is used
	bufs   *bufRing // likewise
	group  bufReg   // as it was registered
	closed bool

	control int // room for it in a buffer

	sqHead   uint32
	bufHead  uint16
	waiting  []completion // that overran the completion ring
	fd       int32        // of the receive that was taken last
	receives int          // that were taken

	errs []error           // of the next enters, nil for none
	play func(receive int) // carries a receive out, of which it is told the number; nil ends it with EAGAIN
	took func(n int) int   // what enter says of n submissions that it has taken; nil for the truth
}

// A completion is an entry of the completion ring.
type completion struct {
	res   int32
	flags uint32
}

const (
	fakeSQTail, fakeSQFlags, fakeSQArray = 4, 8, 12
	fakeCQHead, fakeCQTail, fakeCQEs     = 64, 68, 128
)

// fakeReceiver is a Receiver on a fakeKernel. Its counters start shortly before they
// wrap: at 32 bits those of the rings, at 16 bits those of the buffers.
func fakeReceiver(t testing.TB, conf Config) (*Receiver, *fakeKernel) {
	t.Helper()
	k := &fakeKernel{t: t, sqHead: ^uint32(0) - 2}
	r, err := newReceiver(conf, func(completions int) (*ring, error) {
		entries := uint32(2)
		for entries < uint32(completions) {
			entries *= 2
		}
		p := &iouring.IOURingParams{SQEntries: sqEntries, CQEntries: entries}
		p.SQOffset.Tail, p.SQOffset.Flags, p.SQOffset.Array = fakeSQTail, fakeSQFlags, fakeSQArray
		p.CQOffset.Head, p.CQOffset.Tail, p.CQOffset.Cqes = fakeCQHead, fakeCQTail, fakeCQEs
		k.ring = &ring{sys: k}
		var err error
		if k.ring.mem, err = mapAnonymous(ringSize(p)); err != nil {
			return nil, err
		}
		if k.ring.sqeMem, err = mapAnonymous(sqEntries * sqeLen); err != nil {
			return nil, err
		}
		k.word(fakeSQTail).Store(k.sqHead)
		k.word(fakeCQHead).Store(^uint32(0) - 20)
		k.word(fakeCQTail).Store(^uint32(0) - 20)
		k.ring.lay(p)
		return k.ring, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	k.bufs, k.control = r.bufs, r.conf.Control
	if at := uint64(uintptr(unsafe.Pointer(&k.bufs.mem[0]))); k.group.ringAddr != at || int(k.group.ringEntries) != r.conf.Buffers {
		t.Fatalf("registered %+v, want %d buffers at %#x", k.group, r.conf.Buffers, at)
	}
	// A multiple of every number of buffers, so that the slots are as they were.
	const start = 1<<16 - 2*MaxBuffers
	k.bufHead += start
	r.bufs.head, r.bufs.tail = start, r.bufs.tail+start
	r.bufs.publish()
	return r, k
}

func (k *fakeKernel) word(off int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&k.ring.mem[off]))
}

func (k *fakeKernel) register(op uint8, arg unsafe.Pointer, _ uint32) error {
	if op != registerPbufRing {
		return unix.EINVAL
	}
	k.group = *(*bufReg)(arg)
	return nil
}

func (k *fakeKernel) close() { k.closed = true }

func (k *fakeKernel) enter(submit, flags uint32) (int, error) {
	if k.closed {
		k.t.Error("io_uring_enter of a ring that is closed")
		return 0, unix.EBADF
	}
	if len(k.errs) > 0 {
		err := k.errs[0]
		if k.errs = k.errs[1:]; err != nil {
			return 0, err
		}
	}
	n := 0
	if k.took != nil {
		if n = k.took(int(submit)); n == 0 && submit > 0 {
			return 0, nil
		}
	}
	for ; submit > 0 && k.sqHead != k.word(fakeSQTail).Load(); submit-- {
		k.sqHead++
		if k.took == nil {
			n++
		}
		k.check(k.ring.sqeMem)
		k.receives++
		if k.play == nil {
			k.end(unix.EAGAIN)
			continue
		}
		k.play(k.receives - 1)
	}
	if flags&enterGetEvents != 0 {
		k.flush()
	}
	return n, nil
}

// check wants a submission to be a multishot recvmsg that does not wait.
func (k *fakeKernel) check(sqe []byte) {
	u16, u32 := binary.NativeEndian.Uint16, binary.NativeEndian.Uint32
	k.fd = int32(u32(sqe[4:]))
	if sqe[0] != iouring.IORING_OP_RECVMSG || sqe[1] != sqeBufferSelect || u16(sqe[2:]) != recvMultishot ||
		u32(sqe[28:]) != unix.MSG_DONTWAIT || u16(sqe[40:]) != bufGroup {
		k.t.Errorf("submission %x", sqe[:64])
	}
}

// post adds a completion, or has it wait for room.
func (k *fakeKernel) post(c completion) {
	tail := k.word(fakeCQTail).Load()
	if len(k.waiting) > 0 || tail-k.word(fakeCQHead).Load() >= k.ring.size() {
		k.waiting = append(k.waiting, c)
		k.word(fakeSQFlags).Store(sqCQOverflow)
		return
	}
	cqe := k.ring.mem[fakeCQEs+int(tail&k.ring.cqMask)*cqeLen:]
	binary.NativeEndian.PutUint64(cqe, 0)
	binary.NativeEndian.PutUint32(cqe[8:], uint32(c.res))
	binary.NativeEndian.PutUint32(cqe[12:], c.flags)
	k.word(fakeCQTail).Store(tail + 1)
}

// flush brings what overran the ring.
func (k *fakeKernel) flush() {
	waiting := k.waiting
	k.waiting = nil
	k.word(fakeSQFlags).Store(0)
	for _, c := range waiting {
		k.post(c)
	}
}

// end ends a receive with an error.
func (k *fakeKernel) end(errno unix.Errno) { k.post(completion{res: -int32(errno)}) }

// pick takes the buffer whose turn it is, false if the reader has them all.
func (k *fakeKernel) pick() (uint16, []byte, bool) {
	tail := uint16((*atomic.Uint32)(unsafe.Pointer(&k.bufs.mem[12])).Load() >> 16)
	if tail == k.bufHead {
		return 0, nil, false
	}
	slot := k.bufs.mem[int(uint32(k.bufHead)&k.bufs.mask)*int(unsafe.Sizeof(buf{})):]
	at, size, id := binary.NativeEndian.Uint64(slot), binary.NativeEndian.Uint32(slot[8:]), binary.NativeEndian.Uint16(slot[12:])
	k.bufHead++
	off := int(at - uint64(uintptr(unsafe.Pointer(&k.bufs.bufs[0]))))
	if off != int(id)*k.bufs.size || int(size) != k.bufs.size {
		k.t.Errorf("slot of buffer %d: %d bytes at %d", id, size, off)
		return 0, nil, false
	}
	return id, k.bufs.bufs[off : off+int(size)], true
}

// fakeName is the address that fake datagrams come from.
const fakeName = "\x02\x00\x12\x34\x7f\x00\x00\x01........"

// fill puts a datagram into the buffer whose turn it is, and returns its completion
// and the buffer. It ends the receive with ENOBUFS and reports false if there is none.
func (k *fakeKernel) fill(payload string) (completion, []byte, bool) {
	id, b, ok := k.pick()
	if !ok {
		k.end(unix.ENOBUFS)
		return completion{}, nil, false
	}
	start := recvmsgOutLen + nameLen + k.control
	n := copy(b[start:], payload)
	*(*recvmsgOut)(unsafe.Pointer(&b[0])) = recvmsgOut{namelen: uint32(copy(b[recvmsgOutLen:], fakeName)), payloadlen: uint32(len(payload))}
	if n < len(payload) {
		(*recvmsgOut)(unsafe.Pointer(&b[0])).flags = unix.MSG_TRUNC
	}
	return completion{res: int32(start + n), flags: uint32(id)<<16 | cqeFBuffer | cqeFMore}, b, true
}

// honest brings n datagrams, whose content is numbered from first, and the queue's end.
func (k *fakeKernel) honest(first, n int) {
	for i := range n {
		c, _, ok := k.fill(fmt.Sprintf("datagram %d", first+i))
		if !ok {
			return
		}
		k.post(c)
	}
	k.end(unix.EAGAIN)
}

// owners tells if not each buffer has one owner, of which the reader has those in held.
func owners(b *bufRing, held uint32) error {
	if b.held != held {
		return fmt.Errorf("the reader holds %b, and by the ring %b", held, b.held)
	}
	if n := b.tail - b.head; int(n) > len(b.slots) {
		return fmt.Errorf("the kernel has %d of %d buffers", n, len(b.slots))
	}
	if tail := uint16(b.word0().Load() >> 16); tail != b.tail {
		return fmt.Errorf("tail %d is published, want %d", tail, b.tail)
	}
	seen := held
	for i := b.head; i != b.tail; i++ {
		slot := b.slots[uint32(i)&b.mask]
		switch {
		case int(slot.bid) >= len(b.slots):
			return fmt.Errorf("there is no buffer %d", slot.bid)
		case seen&(1<<slot.bid) != 0:
			return fmt.Errorf("buffer %d has two owners: the reader holds %b, %b are counted", slot.bid, held, seen)
		case slot.addr != uint64(uintptr(unsafe.Pointer(&b.bufs[int(slot.bid)*b.size]))) || int(slot.len) != b.size:
			return fmt.Errorf("slot %+v of buffer %d", slot, slot.bid)
		}
		seen |= 1 << slot.bid
	}
	if all := uint32(1<<len(b.slots) - 1); seen != all {
		return fmt.Errorf("of %b only %b have an owner", all, seen)
	}
	return nil
}
