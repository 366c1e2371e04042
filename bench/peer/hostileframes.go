package peer

import (
	"encoding/binary"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// The frames of RFC 9000 §19 that a Hostile sends in masses, in the order of their types.
const (
	frameAck               = 0x02
	frameStopSending       = 0x05
	frameCrypto            = 0x06
	frameMaxData           = 0x10
	frameMaxStreamData     = 0x11
	frameMaxStreamsBidi    = 0x12
	frameDataBlocked       = 0x14
	frameStreamDataBlocked = 0x15
	frameStreamsBlocked    = 0x16
	frameNewConnectionID   = 0x18
	frameRetireConnID      = 0x19
	framePathChallenge     = 0x1a
	framePathResponse      = 0x1b
)

// frame is a type and its integers.
func frame(kind byte, integers ...uint64) []byte {
	b := []byte{kind}
	for _, v := range integers {
		b = h3frame.AppendVarint(b, v)
	}
	return b
}

// AckFrame acknowledges largest and the n packets before it.
func AckFrame(largest, n uint64) []byte { return frame(frameAck, largest, 0, 0, n) }

// AckRangesFrame acknowledges every other packet number from largest down, n of them.
func AckRangesFrame(largest uint64, n int) []byte {
	b := frame(frameAck, largest, 0, uint64(n-1), 0)
	for range n - 1 {
		b = append(b, 0, 0) // a gap of one, and a range of one
	}
	return b
}

// StopSendingFrame asks the peer to give up sending on a stream.
func StopSendingFrame(id, code uint64) []byte { return frame(frameStopSending, id, code) }

// CryptoFrame is a piece of the handshake.
func CryptoFrame(offset uint64, data []byte) []byte {
	return append(frame(frameCrypto, offset, uint64(len(data))), data...)
}

// MaxDataFrame is credit for the connection.
func MaxDataFrame(n uint64) []byte { return frame(frameMaxData, n) }

// MaxStreamDataFrame is credit for a stream.
func MaxStreamDataFrame(id, n uint64) []byte { return frame(frameMaxStreamData, id, n) }

// MaxStreamsFrame is credit for bidirectional streams.
func MaxStreamsFrame(n uint64) []byte { return frame(frameMaxStreamsBidi, n) }

// DataBlockedFrame says that MAX_DATA is too little.
func DataBlockedFrame(n uint64) []byte { return frame(frameDataBlocked, n) }

// StreamDataBlockedFrame says that MAX_STREAM_DATA is too little.
func StreamDataBlockedFrame(id, n uint64) []byte { return frame(frameStreamDataBlocked, id, n) }

// StreamsBlockedFrame says that MAX_STREAMS is too little.
func StreamsBlockedFrame(n uint64) []byte { return frame(frameStreamsBlocked, n) }

// NewConnectionIDFrame offers an ID of eight bytes, made of its number, and has those
// below retire given up.
func NewConnectionIDFrame(number, retire uint64) []byte {
	const idLen = 8
	b := append(frame(frameNewConnectionID, number, retire), idLen)
	b = binary.BigEndian.AppendUint64(b, number|1<<63)
	b = binary.BigEndian.AppendUint64(b, number) // a token of 16 bytes
	return binary.BigEndian.AppendUint64(b, ^number)
}

// RetireConnectionIDFrame gives up an ID of the peer's.
func RetireConnectionIDFrame(number uint64) []byte { return frame(frameRetireConnID, number) }

// PathChallengeFrame asks for an answer with the same data, which PathResponseFrame is.
func PathChallengeFrame(data uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{framePathChallenge}, data)
}

// PathResponseFrame answers a challenge.
func PathResponseFrame(data uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{framePathResponse}, data)
}
