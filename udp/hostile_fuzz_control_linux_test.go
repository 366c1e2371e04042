package udp

import (
	"bytes"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cutControl is what controlParser.parse does, by the kernel's own structure in memory
// that is aligned for it.
func cutControl(control []byte) (rest []byte, segment int) {
	memory := make([]uint64, len(control)/8+3)
	aligned := unsafe.Slice((*byte)(unsafe.Pointer(&memory[0])), 8*len(memory))
	copy(aligned, control)
	rest = []byte{}
	off := 0
	for len(control)-off >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&aligned[off]))
		n := int(min(h.Len, 1<<30))
		if n < unix.SizeofCmsghdr || n > len(control)-off {
			break
		}
		end := off
		for end < off+n || end%unix.SizeofPtr != 0 {
			end++
		}
		end = min(end, len(control))
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && n >= unix.CmsgLen(4) {
			if n := *(*int32)(unsafe.Pointer(&aligned[off+unix.CmsgLen(0)])); n > 0 {
				segment = int(n)
			}
		} else {
			rest = append(rest, control[off:end]...)
		}
		off = end
	}
	return append(rest, control[off:]...), segment
}

// FuzzControl feeds raw control messages, at any alignment: what is cut out is what a
// reader of the kernel's structures would cut out, and never twice.
func FuzzControl(f *testing.F) {
	tos, info := cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{2}), cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	long := func(b []byte, length int) []byte { // a message that lies about its length
		b = bytes.Clone(b)
		cmsgAt(b).SetLen(length)
		return b
	}
	for _, seed := range [][]byte{
		nil, tos, groCmsg(1252), groCmsg(-1), join(tos, groCmsg(1452), info), join(groCmsg(1), groCmsg(-1), groCmsg(2)),
		join(tos, groCmsg(7)[:unix.CmsgLen(4)]), join(tos, groCmsg(7)[:unix.CmsgLen(3)]),
		join(long(tos, 0), groCmsg(9)), join(long(tos, unix.CmsgLen(0)), groCmsg(9)), join(long(groCmsg(9), 1<<30), tos),
		join(long(groCmsg(9), -1), tos), join(long(tos, unix.CmsgLen(5)), groCmsg(9)), join(long(groCmsg(9), unix.CmsgLen(3)), tos),
		bytes.Repeat(groCmsg(5), 10), bytes.Repeat(tos, 10), bytes.Repeat(join(tos, groCmsg(5)), 40), make([]byte, 255),
	} {
		f.Add(seed, uint8(0))
		f.Add(seed, uint8(3))
	}
	f.Fuzz(func(t *testing.T, control []byte, shift uint8) {
		memory := make([]byte, int(shift&7)+len(control))
		in := memory[shift&7:]
		copy(in, control)
		var p controlParser
		rest, segment := p.parse(in)
		wantRest, wantSegment := cutControl(control)
		if !bytes.Equal(in, control) {
			t.Fatal("what was read has changed")
		}
		if segment != wantSegment {
			t.Fatalf("segment %d, want %d", segment, wantSegment)
		}
		if len(control) > oobSize { // no receiver has room for it
			if !bytes.HasPrefix(wantRest, rest) {
				t.Fatalf("%x is left, want the start of %x", rest, wantRest)
			}
			return
		}
		if !bytes.Equal(rest, wantRest) {
			t.Fatalf("%x is left, want %x", rest, wantRest)
		}
		var second controlParser
		if again, more := second.parse(rest); more != 0 || !bytes.Equal(again, rest) {
			t.Fatalf("%x has a segment of %d left in it", rest, more)
		}
	})
}

// FuzzMessages has recvmmsg(2) lie about what it filled in: whatever is given out lies
// within the message's own memory.
func FuzzMessages(f *testing.F) {
	f.Add(true, uint32(10), uint32(16), uint64(0), int32(0))
	f.Add(false, uint32(1<<31), uint32(1<<31), uint64(1<<31), int32(0))
	f.Add(true, ^uint32(0), ^uint32(0), ^uint64(0), int32(0))
	f.Add(true, uint32(70_000), uint32(29), uint64(oobSize+1), int32(unix.MSG_TRUNC))
	receivers := map[bool]*callReceiver{}
	for _, gro := range []bool{false, true} {
		receivers[gro] = newCallReceiver(Mmsg, gro, nil)
	}
	f.Fuzz(func(t *testing.T, gro bool, length, namelen uint32, controllen uint64, flags int32) {
		var stats counters
		r := receivers[gro]
		r.stats, r.pos = &stats, 0
		for i := range r.msgs {
			r.bufs[i*len(r.bufs)/len(r.msgs)] = byte(i)
			m := &r.msgs[i]
			m.len, m.hdr.Namelen, m.hdr.Flags = length, namelen, flags
			lieControllen(&m.hdr, controllen)
			r.names[i].Family = unix.AF_INET6
			r.names[i].Port = uint16(i)
		}
		r.got = len(r.msgs)
		room := len(r.bufs) / len(r.msgs)
		for i := 0; ; i++ {
			p, ok := r.next()
			if !ok {
				if i+int(stats.truncated.Load()) != len(r.msgs) {
					t.Fatalf("%d of %d messages and %d truncated", i, len(r.msgs), stats.truncated.Load())
				}
				return
			}
			if len(p.payload) != int(min(uint64(length), uint64(room))) || len(p.control) > oobSize || p.segment < 0 {
				t.Fatalf("%d bytes of %d, %d of control data", len(p.payload), length, len(p.control))
			}
			if len(p.payload) > 0 && p.payload[0] != byte(i) {
				t.Fatalf("message %d has the payload of %d", i, p.payload[0])
			}
		}
	})
}

// lieControllen sets a length as it comes, whatever type the system has for it.
func lieControllen(h *unix.Msghdr, n uint64) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&h.Controllen)), unsafe.Sizeof(h.Controllen))
	for i := range b {
		b[i] = byte(n >> (8 * i)) // on a big-endian machine another lie
	}
}
