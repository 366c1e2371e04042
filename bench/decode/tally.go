package decode

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A tally is what has come out of a reader. Counting is part of what is measured, and
// the same little for all; digests are made beside it, in passes that do not count.
type tally struct {
	units  int // frames, or what the reader takes them for: see reader.want
	bytes  int64
	digest hash.Hash // of all that came out; nil to only count
}

func digesting() *tally { return &tally{digest: sha256.New()} }

// piece notes some payload of a frame.
func (t *tally) piece(p []byte) {
	t.bytes += int64(len(p))
	if t.digest != nil {
		t.digest.Write(p)
	}
}

// end notes the end of a frame.
func (t *tally) end(typ h3frame.FrameType) {
	t.units++
	if t.digest != nil {
		t.mark(uint64(typ))
	}
}

// field notes a line of a field section.
func (t *tally) field(name, value string) {
	t.bytes += int64(len(name) + len(value))
	if t.digest != nil {
		t.digested(name, value)
	}
}

// digested puts a field into the digest only.
func (t *tally) digested(name, value string) {
	t.mark(uint64(len(name)))
	t.digest.Write([]byte(name))
	t.mark(uint64(len(value)))
	t.digest.Write([]byte(value))
}

// mark keeps what is around it apart in the digest.
func (t *tally) mark(v uint64) { t.digest.Write(binary.BigEndian.AppendUint64(nil, v)) }

// differs says how what has come out is not what must.
func (t *tally) differs(want *tally) error {
	switch {
	case t.units != want.units || t.bytes != want.bytes:
		return fmt.Errorf("%d units of %d bytes came out, of %d of %d", t.units, t.bytes, want.units, want.bytes)
	case t.digest != nil && string(t.digest.Sum(nil)) != string(want.digest.Sum(nil)):
		return fmt.Errorf("%d units of %d bytes came out, but not those that went in", t.units, t.bytes)
	}
	return nil
}
