package h3frame

import (
	"fmt"
	"io"
	"slices"
)

// A CapsuleType is the type of a capsule (RFC 9297 §3.2,
// https://www.iana.org/assignments/masque/masque.xhtml).
type CapsuleType uint64

// CapsuleDatagram carries an HTTP datagram on a stream (RFC 9297 §3.5).
const CapsuleDatagram CapsuleType = 0x0

// String returns the name in the RFC, or the number of a type without one.
func (t CapsuleType) String() string {
	if t == CapsuleDatagram {
		return "DATAGRAM"
	}
	return fmt.Sprintf("0x%x", uint64(t))
}

// GreaseCapsule returns the nth type that is reserved so that peers prove they
// skip what they do not know, 0x29*n + 0x17 (RFC 9297 §5.4).
func GreaseCapsule(n uint64) CapsuleType { return CapsuleType(0x29*n + 0x17) }

// A Capsule is one capsule that a CapsuleDecoder returned. Its payload is valid
// until the next call to Next or to Buffer.Release.
type Capsule struct {
	Type    CapsuleType
	Payload []byte
}

// DefaultMaxCapsulePayload bounds a capsule's payload if no bound is given: the
// largest UDP datagram fits.
const DefaultMaxCapsulePayload = 64 << 10

// A CapsuleDecoder pulls capsules out of the DATA of one message that uses the
// capsule protocol (RFC 9297 §3), in the way a Decoder pulls frames out of a
// stream: all that is whole comes before the end, and the end stays.
//
// Write each body piece to its Buffer: the piece lives only until the next call
// of the Decoder that it comes from, and so must be copied.
type CapsuleDecoder struct {
	tlvReader
	max   int
	known []CapsuleType
}

// NewCapsuleDecoder returns a decoder that returns DATAGRAM capsules and those of
// the given types, and skips all others (RFC 9297 §3.2). One of them with a
// payload of more than maxPayload bytes, or DefaultMaxCapsulePayload if that is
// not positive, is an H3_EXCESSIVE_LOAD.
func NewCapsuleDecoder(maxPayload int, known ...CapsuleType) *CapsuleDecoder {
	if maxPayload <= 0 {
		maxPayload = DefaultMaxCapsulePayload
	}
	return &CapsuleDecoder{max: maxPayload, known: append(slices.Clip(known), CapsuleDatagram)}
}

// Next returns the next capsule. Its errors are those of Decoder.Next, but that a
// FIN within a capsule is an H3_MESSAGE_ERROR (RFC 9297 §3.3), which ends the
// stream only.
func (d *CapsuleDecoder) Next() (Capsule, error) {
	if d.err != nil {
		return Capsule{}, d.err
	}
	if d.buf.dropped {
		return Capsule{}, d.fail(d.discarded())
	}
	for {
		if len(d.buf.cur) == 0 {
			d.buf.advance()
		}
		if !d.within && !d.header() {
			return Capsule{}, d.starved()
		}
		t := CapsuleType(d.typ)
		switch {
		case !slices.Contains(d.known, t):
			d.pass()
		case d.length > uint64(d.max):
			return Capsule{}, d.fail(&FrameError{Code: ErrCodeExcessiveLoad, Type: FrameData,
				Reason: fmt.Sprintf("%s capsule: %d bytes declared, limit %d", t, d.length, d.max)})
		default:
			if p, ok := d.whole(); ok {
				return Capsule{Type: t, Payload: p}, nil
			}
		}
		if d.within {
			return Capsule{}, d.starved()
		}
	}
}

func (d *CapsuleDecoder) starved() error {
	end := d.buf.end
	switch {
	case end == nil:
		d.buf.advance()
		return ErrNeedMore
	case !d.cut():
		return d.fail(end)
	case isEOF(end):
		return d.fail(&FrameError{Code: ErrCodeMessage, Type: FrameData, Reason: "stream ends within a capsule", Cause: io.ErrUnexpectedEOF})
	}
	cut := d.truncation(end)
	cut.Capsule = true
	return d.fail(cut)
}

// AppendCapsule appends a capsule (RFC 9297 §3.2).
func AppendCapsule(b []byte, t CapsuleType, payload []byte) []byte {
	b = AppendVarint(AppendVarint(b, uint64(t)), uint64(len(payload)))
	return append(b, payload...)
}
