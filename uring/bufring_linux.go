//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// A bufRing is a provided-buffer ring (io_uring_register_buf_ring(3), Linux
// 5.19): the kernel takes a buffer from its head for each datagram, and we put
// it back at its tail.
//
//	slot 0                              slot 1
//	addr u64 │ len u32 │ bid u16 │ TAIL u16 │ addr u64 │ len u32 │ bid u16 │ - │ …
//
// The tail lives in the last two bytes of slot 0. Go has no 16-bit atomic
// store, so bid and tail of slot 0 are stored as one 32-bit word, which on a
// little-endian machine has the tail in its upper half.
type bufRing struct {
	mem   []byte // the ring
	bufs  []byte // the buffers, one after the other
	slots []buf
	size  int // bytes of a buffer
	mask  uint32

	// Each counts the buffers that went past it: put back, lent to the receive that
	// is under way, and filled. Those from head to tail are the kernel's.
	tail, lent, head uint16
	held             uint32 // a bit for each buffer that is the reader's
}

// bufGroup is the only buffer group of a ring.
const bufGroup = 0

// newBufRing makes a ring of n buffers, a power of two up to MaxBuffers, all
// given to the kernel.
func newBufRing(n, size int) (*bufRing, error) {
	if n < 1 || n > MaxBuffers || n&(n-1) != 0 {
		return nil, fmt.Errorf("%d buffers: give a power of two from 1 to %d", n, MaxBuffers)
	}
	b := &bufRing{size: size, mask: uint32(n - 1)}
	var err error
	if b.mem, err = mapAnonymous(n * int(unsafe.Sizeof(buf{}))); err != nil {
		return nil, err
	}
	if b.bufs, err = mapAnonymous(n * size); err != nil {
		b.unmap()
		return nil, err
	}
	b.slots = unsafe.Slice((*buf)(unsafe.Pointer(&b.mem[0])), n)
	for i := range n {
		b.put(uint16(i))
	}
	b.publish()
	return b, nil
}

// register hands the ring to the kernel.
func (b *bufRing) register(r *ring) error {
	reg := bufReg{
		ringAddr:    uint64(uintptr(unsafe.Pointer(&b.mem[0]))),
		ringEntries: uint32(len(b.slots)),
		bgid:        bufGroup,
	}
	if err := r.sys.register(registerPbufRing, unsafe.Pointer(&reg), 1); err != nil {
		return fmt.Errorf("register buffer ring: %w", err)
	}
	return nil
}

// buffer is the memory of one buffer.
func (b *bufRing) buffer(id uint16) []byte {
	return b.bufs[int(id)*b.size : (int(id)+1)*b.size : (int(id)+1)*b.size]
}

// lend notes which buffers a receive that starts now can use.
func (b *bufRing) lend() { b.lent = b.tail }

// usedUp tells whether the receive has used all that it could.
func (b *bufRing) usedUp() bool { return b.head == b.lent }

// take makes a buffer that the kernel has filled the reader's, and reports false if it
// is not the one whose turn it is: the kernel uses them in the order in which they were
// put. What is the reader's, or was put only after the receive had started, has no turn.
func (b *bufRing) take(id uint16) bool {
	if b.usedUp() || b.slots[uint32(b.head)&b.mask].bid != id {
		return false
	}
	b.head++
	b.held |= 1 << id
	return true
}

// giveBack makes a buffer the kernel's again, if it is the reader's.
func (b *bufRing) giveBack(id uint16) {
	if b.held&(1<<id) == 0 {
		return
	}
	b.held &^= 1 << id
	b.put(id)
	b.publish()
}

// put adds a buffer at the tail. The kernel sees it after publish.
func (b *bufRing) put(id uint16) {
	slot := &b.slots[uint32(b.tail)&b.mask]
	// Field by field: assigning slot 0 whole would set the tail.
	slot.addr = uint64(uintptr(unsafe.Pointer(&b.bufs[int(id)*b.size])))
	slot.len = uint32(b.size)
	if uint32(b.tail)&b.mask == 0 {
		// The word is read by the kernel at any time, so both halves are kept
		// right: the new bid, and the tail that it knows already.
		b.word0().Store(b.word0().Load()&0xffff0000 | uint32(id))
	} else {
		slot.bid = id
	}
	b.tail++
}

// publish makes all that was put visible to the kernel.
func (b *bufRing) publish() {
	b.word0().Store(uint32(b.tail)<<16 | uint32(b.slots[0].bid))
}

// word0 is bid and tail of slot 0.
func (b *bufRing) word0() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&b.slots[0].bid))
}

func (b *bufRing) unmap() {
	for _, m := range []*[]byte{&b.mem, &b.bufs} {
		unmap(m)
	}
	b.slots = nil
}
