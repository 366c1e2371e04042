package h3frame

import "encoding/binary"

// MaxVarint is the largest value that a variable-length integer holds, 2^62-1
// (RFC 9000 §16).
const MaxVarint uint64 = 1<<62 - 1

// maxVarintLen is the longest encoding of a variable-length integer in bytes.
const maxVarintLen = 8

// The largest values of the shorter encodings, and the length in bytes that the
// two upper bits of the first byte announce (RFC 9000 §16, table 4).
const (
	maxVarint1 = 1<<6 - 1
	maxVarint2 = 1<<14 - 1
	maxVarint4 = 1<<30 - 1

	varintPrefix2 = 0x40
	varintPrefix4 = 0x80
	varintPrefix8 = 0xc0
)

// AppendVarint appends v in its shortest encoding (RFC 9000 §16). A value above
// MaxVarint, which has no encoding, is written as MaxVarint: what follows on the
// wire stays in frame. Callers that must tell compare with MaxVarint first.
func AppendVarint(b []byte, v uint64) []byte {
	switch {
	case v <= maxVarint1:
		return append(b, byte(v))
	case v <= maxVarint2:
		return append(b, varintPrefix2|byte(v>>8), byte(v))
	case v <= maxVarint4:
		return append(b, varintPrefix4|byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	v = min(v, MaxVarint)
	return append(b,
		varintPrefix8|byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32),
		byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// ParseVarint reads a variable-length integer from the start of b and returns it
// with the bytes it took. n == 0 means that b ends before the integer does.
// Encodings longer than need be are valid (RFC 9000 §16).
func ParseVarint(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch b[0] & varintPrefix8 {
	case 0:
		return uint64(b[0]), 1
	case varintPrefix2:
		if len(b) < 2 {
			return 0, 0
		}
		return uint64(binary.BigEndian.Uint16(b)) & maxVarint2, 2
	case varintPrefix4:
		if len(b) < 4 {
			return 0, 0
		}
		return uint64(binary.BigEndian.Uint32(b)) & maxVarint4, 4
	}
	if len(b) < maxVarintLen {
		return 0, 0
	}
	return binary.BigEndian.Uint64(b) & MaxVarint, maxVarintLen
}

// VarintLen returns the bytes that AppendVarint appends for v: 1, 2, 4 or 8.
func VarintLen(v uint64) int {
	switch {
	case v <= maxVarint1:
		return 1
	case v <= maxVarint2:
		return 2
	case v <= maxVarint4:
		return 4
	}
	return maxVarintLen
}

// parseVarint8 is ParseVarint for a b of at least 8 bytes: without a branch, since
// the lengths of a peer's integers are hard to predict.
func parseVarint8(b []byte) (v uint64, n int) {
	v = binary.BigEndian.Uint64(b)
	n = 1 << (v >> 62)
	return (v & MaxVarint) >> (64 - 8*n), n
}
