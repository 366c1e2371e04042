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
	tail  uint16
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
	if err := r.register(registerPbufRing, unsafe.Pointer(&reg), 1); err != nil {
		return fmt.Errorf("register buffer ring: %w", err)
	}
	return nil
}

// buffer is the memory of one buffer.
func (b *bufRing) buffer(id uint16) []byte {
	return b.bufs[int(id)*b.size : (int(id)+1)*b.size : (int(id)+1)*b.size]
}

// put gives a buffer back. The kernel sees it after publish.
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
