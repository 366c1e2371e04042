package h3frame

import (
	"bytes"
	"math"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"
)

func TestVarint(t *testing.T) {
	for _, tc := range []struct {
		v    uint64
		wire []byte
	}{
		{0, []byte{0}},
		{37, []byte{0x25}}, // this and the next three: RFC 9000 §A.1
		{15293, []byte{0x7b, 0xbd}},
		{494878333, []byte{0x9d, 0x7f, 0x3e, 0x7d}},
		{151288809941952652, []byte{0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c}},
		{63, []byte{0x3f}},
		{64, []byte{0x40, 0x40}},
		{16383, []byte{0x7f, 0xff}},
		{16384, []byte{0x80, 0, 0x40, 0}},
		{1<<30 - 1, []byte{0xbf, 0xff, 0xff, 0xff}},
		{1 << 30, []byte{0xc0, 0, 0, 0, 0x40, 0, 0, 0}},
		{MaxVarint, bytes.Repeat([]byte{0xff}, 8)},
	} {
		if got := AppendVarint(nil, tc.v); !bytes.Equal(got, tc.wire) {
			t.Errorf("AppendVarint(%d) = %x, want %x", tc.v, got, tc.wire)
		}
		if got := VarintLen(tc.v); got != len(tc.wire) {
			t.Errorf("VarintLen(%d) = %d, want %d", tc.v, got, len(tc.wire))
		}
		for cut := range tc.wire {
			if _, n := ParseVarint(tc.wire[:cut]); n != 0 {
				t.Errorf("ParseVarint(%x) took %d bytes of an incomplete integer", tc.wire[:cut], n)
			}
		}
		if v, n := ParseVarint(append(tc.wire[:len(tc.wire):len(tc.wire)], 0xee)); v != tc.v || n != len(tc.wire) {
			t.Errorf("ParseVarint(%x) = %d, %d", tc.wire, v, n)
		}
	}
	if v, n := ParseVarint([]byte{0x40, 0x25}); v != 37 || n != 2 {
		t.Errorf("a longer encoding than need be: %d, %d", v, n)
	}
}

func TestVarintTooLarge(t *testing.T) {
	for _, v := range []uint64{MaxVarint + 1, math.MaxUint64} {
		if got, _ := ParseVarint(AppendVarint(nil, v)); got != MaxVarint {
			t.Errorf("AppendVarint(%d) reads as %d, want MaxVarint", v, got)
		}
		if VarintLen(v) != 8 {
			t.Errorf("VarintLen(%d) = %d", v, VarintLen(v))
		}
	}
}

func FuzzVarint(f *testing.F) {
	for _, v := range []uint64{0, 63, 64, 16383, 16384, 1<<30 - 1, 1 << 30, MaxVarint} {
		f.Add(v, quicvarint.Append(nil, v))
	}
	f.Add(uint64(7), []byte{0xc0, 1})
	f.Fuzz(func(t *testing.T, v uint64, b []byte) {
		v &= MaxVarint
		if got, want := AppendVarint(nil, v), quicvarint.Append(nil, v); !bytes.Equal(got, want) {
			t.Errorf("AppendVarint(%d) = %x, want %x", v, got, want)
		}
		if got, want := VarintLen(v), quicvarint.Len(v); got != want {
			t.Errorf("VarintLen(%d) = %d, want %d", v, got, want)
		}
		wantV, wantN, err := quicvarint.Parse(b)
		if gotV, gotN := ParseVarint(b); gotN != wantN || gotV != wantV || (gotN == 0) != (err != nil) {
			t.Errorf("ParseVarint(%x) = %d, %d; want %d, %d, %v", b, gotV, gotN, wantV, wantN, err)
		}
	})
}
