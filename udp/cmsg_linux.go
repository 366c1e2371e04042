package udp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// oobSize is the room for control messages of one packet. A dual-stack socket
// that receives IPv4 with TOS, PKTINFO in both forms and UDP_GRO needs 120
// bytes; the rest is for options that embedders set.
const oobSize = 256

// A controlParser takes the length of datagrams out of control messages.
type controlParser struct {
	kept [oobSize]byte
}

// parse returns the control messages but that of UDP_GRO, and the segment
// length that it gives, 0 without one. The result is valid until the next call.
//
//	struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; } and data,
//	each message aligned to size_t (cmsg(3)); UDP_GRO has an int (udp(7))
func (p *controlParser) parse(control []byte) (rest []byte, segment int) {
	at := 0 // start of what was not copied yet
	kept := 0
	found := false
	for off := 0; off+unix.SizeofCmsghdr <= len(control); {
		length, level, typ := cmsgHeader(control[off:])
		if length < unix.SizeofCmsghdr || length > len(control)-off {
			break // cut off or damaged: whoever reads it will see
		}
		next := min(off+cmsgAlign(length), len(control))
		if level == unix.IPPROTO_UDP && typ == unix.UDP_GRO && length >= unix.CmsgLen(4) {
			if n := int32(binary.NativeEndian.Uint32(control[off+unix.CmsgLen(0):])); n > 0 {
				segment = int(n)
			}
			kept += copy(p.kept[kept:], control[at:off])
			at, found = next, true
		}
		off = next
	}
	if !found {
		return control, 0
	}
	kept += copy(p.kept[kept:], control[at:])
	return p.kept[:kept], segment
}

// cmsgHeader reads a struct cmsghdr, at whatever alignment.
func cmsgHeader(b []byte) (length int, level, typ int32) {
	if unix.SizeofPtr == 8 {
		return int(min(binary.NativeEndian.Uint64(b), 1<<30)),
			int32(binary.NativeEndian.Uint32(b[8:])), int32(binary.NativeEndian.Uint32(b[12:]))
	}
	return int(min(binary.NativeEndian.Uint32(b), 1<<30)),
		int32(binary.NativeEndian.Uint32(b[4:])), int32(binary.NativeEndian.Uint32(b[8:]))
}

func cmsgAlign(n int) int { return (n + unix.SizeofPtr - 1) &^ (unix.SizeofPtr - 1) }
