package h3frame

import (
	"fmt"
)

// A QPACKStream reads the instructions on a peer's QPACK encoder or decoder
// stream (RFC 9204 §4.3, §4.4) and holds them against a dynamic table of no
// capacity, which is the only one that this package has: no instruction may
// change it, and so none needs more memory than its first integer.
//
//	encoder stream   001 Capacity (5+)      legal if 0
//	                 1…, 01…, 000…          inserts and duplicates: never legal
//	decoder stream   1 Stream ID (7+)       acknowledges a section that used the table: never legal
//	                 01 Stream ID (6+)      a stream was given up: legal, of no effect
//	                 00 Increment (6+)      tells of inserts: never legal
type QPACKStream struct {
	typ  StreamType
	err  error // sticky
	what instruction

	within bool   // an integer goes on in further bytes
	value  uint64 // of its bytes so far
	shift  uint
}

// An instruction is one that has an integer to be read before it can be judged.
type instruction int

const (
	setCapacity instruction = iota
	cancelStream
)

// The first bytes of instructions, and the bits of their integers (RFC 9204 §4.3, §4.4).
const (
	capacityMask   = 0xe0
	capacityBits   = 0x20
	capacityPrefix = 0x1f

	ackBit       = 0x80
	cancelBit    = 0x40
	cancelPrefix = 0x3f

	integerMore  = 0x80 // in each further byte of an integer, but the last (RFC 7541 §5.1)
	integerBits  = 7
	maxShift     = 56 // RFC 9204 §4.1.1: integers of up to 62 bits
	integerValue = 0x7f
)

// NewQPACKStream returns a reader for a stream of type StreamQPACKEncoder or
// StreamQPACKDecoder, after its stream type.
func NewQPACKStream(t StreamType) *QPACKStream { return &QPACKStream{typ: t} }

// Feed reads the next bytes of the stream, and keeps none of them. Its error is a
// *FrameError of QPACK_ENCODER_STREAM_ERROR or QPACK_DECODER_STREAM_ERROR that ends
// the connection, and stays.
func (q *QPACKStream) Feed(p []byte) error {
	for _, c := range p {
		if q.err != nil {
			return q.err
		}
		switch {
		case q.within:
			q.more(c)
		case q.typ == StreamQPACKEncoder:
			q.encoderInstruction(c)
		default:
			q.decoderInstruction(c)
		}
	}
	return q.err
}

// Finish says how the stream ended: a FIN, which is io.EOF or nil, or a reset is
// an H3_CLOSED_CRITICAL_STREAM (RFC 9204 §4.2); to say that the connection was
// closed, do not call it.
func (q *QPACKStream) Finish(err error) error {
	if q.err == nil {
		frameErr := &FrameError{Code: ErrCodeClosedCriticalStream, Reason: q.typ.String() + " stream closed"}
		if err != nil && !isEOF(err) {
			frameErr.Cause = err
		}
		q.err = frameErr
	}
	return q.err
}

func (q *QPACKStream) encoderInstruction(c byte) {
	if c&capacityMask != capacityBits {
		q.refuse("insert into a dynamic table without capacity") // RFC 9204 §3.2.2
		return
	}
	q.integer(setCapacity, c, capacityPrefix)
}

func (q *QPACKStream) decoderInstruction(c byte) {
	switch {
	case c&ackBit != 0:
		q.refuse("acknowledgement of a field section that needs none") // RFC 9204 §4.4.1
	case c&cancelBit != 0:
		q.integer(cancelStream, c, cancelPrefix)
	default:
		q.refuse("insert count increment without inserts") // RFC 9204 §4.4.3
	}
}

// integer begins one with the bits of the first byte that prefix masks
// (RFC 7541 §5.1).
func (q *QPACKStream) integer(what instruction, c, prefix byte) {
	q.what, q.value, q.shift = what, uint64(c&prefix), 0
	q.within = c&prefix == prefix
	if !q.within {
		q.done()
	}
}

func (q *QPACKStream) more(c byte) {
	if q.shift > maxShift {
		q.refuse("integer of more than 62 bits")
		return
	}
	q.value += uint64(c&integerValue) << q.shift
	q.shift += integerBits
	if c&integerMore == 0 {
		q.within = false
		q.done()
	}
}

func (q *QPACKStream) done() {
	if q.what == setCapacity && q.value > 0 {
		q.refuse(fmt.Sprintf("dynamic table capacity %d above our limit of 0", q.value)) // RFC 9204 §4.3.1
	}
}

func (q *QPACKStream) refuse(reason string) {
	code := ErrCodeQPACKEncoderStream
	if q.typ == StreamQPACKDecoder {
		code = ErrCodeQPACKDecoderStream
	}
	q.err = &FrameError{Code: code, Reason: reason}
}
