//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A script is what a fuzzer has the kernel and the reader do.
type script struct{ data []byte }

func (s *script) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *script) u32() uint32 {
	var b [4]byte
	s.data = s.data[copy(b[:], s.data):]
	return binary.LittleEndian.Uint32(b[:])
}

// What a byte of a script has a fakeKernel do while it carries a receive out.
const (
	fuzzDatagram   = iota // u8 length
	fuzzDamaged           // u8 length, u8 what, u32 instead
	fuzzCompletion        // u32 result, u32 flags
	fuzzAgain             // the last completion once more
	fuzzEnd               // u8 errno; the receive may go on after it all the same
	fuzzLast              // EAGAIN, and no more of this receive
	fuzzLeave             // no more of this receive
	fuzzOverflow          // u8 flags of the submission ring
	fuzzTail              // u32 by which the completions' tail moves
	fuzzEnter             // u8 errno of the next enter, 0 for none
	fuzzTake              // u8 what the next enters say that they took, and 255 for the truth
	fuzzActs
)

// play carries out one receive by the script.
func (s *script) play(k *fakeKernel) {
	var last completion
	post := func(c completion) { last = c; k.post(c) }
	for len(s.data) > 0 {
		switch s.byte() % fuzzActs {
		case fuzzDatagram:
			if c, _, ok := k.fill(string(make([]byte, s.byte()))); ok {
				post(c)
			} else {
				return
			}
		case fuzzDamaged:
			c, b, ok := k.fill(string(make([]byte, s.byte())))
			if !ok {
				return
			}
			o := (*recvmsgOut)(unsafe.Pointer(&b[0]))
			switch field, v := s.byte()%6, s.u32(); field {
			case 0:
				o.namelen = v
			case 1:
				o.controllen = v
			case 2:
				o.payloadlen = v
			case 3:
				o.flags = v
			case 4:
				c.res = int32(v)
			case 5:
				c.flags = v
			}
			post(c)
		case fuzzCompletion:
			post(completion{int32(s.u32()), s.u32()})
		case fuzzAgain:
			k.post(last)
		case fuzzEnd:
			post(completion{res: -int32(s.byte())})
		case fuzzLast:
			k.end(unix.EAGAIN)
			return
		case fuzzLeave:
			return
		case fuzzOverflow:
			k.word(fakeSQFlags).Store(uint32(s.byte()))
		case fuzzTail:
			k.word(fakeCQTail).Add(s.u32())
		case fuzzEnter:
			if errno := s.byte(); errno != 0 {
				k.errs = append(k.errs, unix.Errno(errno))
			}
		case fuzzTake:
			n := int(s.byte())
			if k.took = func(int) int { return n }; n == 255 {
				k.took = nil
			}
		}
	}
}

// FuzzCompletion has a kernel do whatever it likes to the rings and the buffers, and a
// reader that keeps some datagrams for long. Nothing panics or goes on for ever, each
// buffer has one owner, what the reader has lies within its own buffer, and a ring that
// is broken stays so.
func FuzzCompletion(f *testing.F) {
	f.Add([]byte{0, fuzzDatagram, 5, fuzzDatagram, 0, fuzzLast})
	f.Add([]byte{1, fuzzDatagram, 5, fuzzAgain, fuzzLast})
	f.Add([]byte{7, fuzzDamaged, 9, 2, 0xff, 0xff, 0xff, 0xff, fuzzDatagram, 1, fuzzLast})
	f.Add([]byte{2, fuzzCompletion, 1, 0, 0, 0, 1, 0, 7, 0, fuzzLeave})
	f.Add([]byte{3, fuzzEnd, 105, fuzzEnd, 11, fuzzTail, 3, 0, 0, 0, fuzzEnter, 16, fuzzOverflow, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &script{data}
		setup := s.byte()
		conf := Config{Buffers: 1 << (setup & 3), Payload: 128, Control: 64}
		if setup&4 != 0 {
			conf.Completions = 1
		}
		keep := int(setup >> 4) // datagrams that the reader holds at most
		r, k := fakeReceiver(t, conf)
		k.play = func(int) { s.play(k) }
		var held []Datagram
		check := func() {
			t.Helper()
			var mask uint32
			for _, d := range held {
				if mask&(1<<d.id) != 0 {
					t.Fatalf("buffer %d was given out twice", d.id)
				}
				mask |= 1 << d.id
				if err := within(r.bufs, d); err != nil {
					t.Fatal(err)
				}
			}
			if err := owners(r.bufs, mask); err != nil {
				t.Fatal(err)
			}
		}
		rounds := 0
		for ; len(s.data) > 0 && rounds < maxRounds; rounds++ {
			err := r.Receive(3)
			check()
			if err != nil && r.broken != nil {
				break
			}
			for d, ok := r.Next(); ok; d, ok = r.Next() {
				held = append(held, d)
				check()
				for len(held) > keep {
					r.Recycle(held[0])
					held = held[1:]
					check()
				}
			}
			check()
		}
		if r.broken != nil {
			_, ok := r.Next()
			if ok || r.Pending() != 0 || r.Drained() || !errors.Is(r.Receive(3), r.broken) {
				t.Fatalf("works on after %v", r.broken)
			}
		}
		// Without a script the kernel is an honest one, whose queue is empty.
		k.play, k.took, k.errs = nil, nil, nil
		given := held
		for _, d := range held {
			r.Recycle(d)
		}
		held = nil
		check()
		if _, err := drive(t, r); errors.Is(err, errForEver) {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		for _, d := range given {
			r.Recycle(d) // too late, and so without effect
		}
		r.bufs.unmap() // also if the receive was left under way: nobody writes to it
		unmap(&r.msgMem)
	})
}

// within tells if a datagram is not in its own buffer, part for part.
func within(b *bufRing, d Datagram) error {
	base := uintptr(unsafe.Pointer(&b.bufs[0])) + uintptr(int(d.id)*b.size)
	at := base + uintptr(recvmsgOutLen)
	for i, part := range [][]byte{d.Name, d.Control, d.Payload} {
		if cap(part) == 0 {
			continue
		}
		from := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
		if from < at || from+uintptr(cap(part)) > base+uintptr(b.size) || cap(part) != len(part) {
			return fmt.Errorf("part %d of buffer %d: %d bytes (%d) at %d of %d", i, d.id, len(part), cap(part), from-base, b.size)
		}
		at = from + uintptr(len(part))
	}
	return nil
}
