package h3frame

import "fmt"

// A FrameType is the type of an HTTP/3 frame
// (https://www.rfc-editor.org/rfc/rfc9114#section-11.2.1).
type FrameType uint64

// The frame types of RFC 9114 §7.2.
const (
	FrameData        FrameType = 0x0
	FrameHeaders     FrameType = 0x1
	FrameCancelPush  FrameType = 0x3
	FrameSettings    FrameType = 0x4
	FramePushPromise FrameType = 0x5
	FrameGoAway      FrameType = 0x7
	FrameMaxPushID   FrameType = 0xd
)

// Frame types that HTTP/2 uses and HTTP/3 has no counterpart for. Their receipt
// is an H3_FRAME_UNEXPECTED on every stream (RFC 9114 §7.2.8).
const (
	reservedPriority     FrameType = 0x2
	reservedPing         FrameType = 0x6
	reservedWindowUpdate FrameType = 0x8
	reservedContinuation FrameType = 0x9
)

// String returns the name in RFC 9114, or the number of a type without one.
func (t FrameType) String() string {
	switch t {
	case FrameData:
		return "DATA"
	case FrameHeaders:
		return "HEADERS"
	case FrameCancelPush:
		return "CANCEL_PUSH"
	case FrameSettings:
		return "SETTINGS"
	case FramePushPromise:
		return "PUSH_PROMISE"
	case FrameGoAway:
		return "GOAWAY"
	case FrameMaxPushID:
		return "MAX_PUSH_ID"
	}
	return fmt.Sprintf("0x%x", uint64(t))
}

// reserved tells a type that HTTP/2 left behind (RFC 9114 §7.2.8).
func (t FrameType) reserved() bool {
	switch t {
	case reservedPriority, reservedPing, reservedWindowUpdate, reservedContinuation:
		return true
	}
	return false
}

// A StreamType is the first integer on a unidirectional stream
// (https://www.rfc-editor.org/rfc/rfc9114#section-11.2.4, RFC 9204 §4.2).
type StreamType uint64

// The stream types of RFC 9114 §6.2 and RFC 9204 §4.2. A stream of any other
// type is to be ignored or aborted, never a connection error (RFC 9114 §6.2).
const (
	StreamControl      StreamType = 0x0
	StreamPush         StreamType = 0x1
	StreamQPACKEncoder StreamType = 0x2
	StreamQPACKDecoder StreamType = 0x3
)

// String returns what the stream is for, or the number of an unknown type.
func (t StreamType) String() string {
	switch t {
	case StreamControl:
		return "control"
	case StreamPush:
		return "push"
	case StreamQPACKEncoder:
		return "QPACK encoder"
	case StreamQPACKDecoder:
		return "QPACK decoder"
	}
	return fmt.Sprintf("0x%x", uint64(t))
}

// ParseStreamType reads the type at the start of a unidirectional stream and
// returns it with the bytes it took; n == 0 means that b ends before it does.
func ParseStreamType(b []byte) (t StreamType, n int) {
	v, n := ParseVarint(b)
	return StreamType(v), n
}

// AppendStreamType appends the preface of a unidirectional stream.
func AppendStreamType(b []byte, t StreamType) []byte {
	return AppendVarint(b, uint64(t))
}

// Grease returns the nth of the numbers that RFC 9114 reserves so that peers
// prove they ignore what they do not know, 0x1f*n + 0x21: frame types (§7.2.8),
// stream types (§6.2.3), settings (§7.2.4.1) and error codes (§8.1).
func Grease(n uint64) uint64 { return 0x1f*n + 0x21 }

// MaxFrameHeaderLen is the longest frame header in bytes: two integers.
const MaxFrameHeaderLen = 2 * maxVarintLen

// A Frame is one frame that a Decoder returned, or a piece of a DATA frame.
type Frame struct {
	Type   FrameType
	Length uint64 // payload bytes that the frame's header declares

	// Payload is the whole payload of a HEADERS, SETTINGS, GOAWAY or
	// MAX_PUSH_ID frame, and the next contiguous piece of a DATA frame. It points
	// into the Decoder's memory and is valid until the next call to Next or to
	// Buffer.Release.
	Payload []byte
	// More tells that further pieces of the same DATA frame follow.
	More bool
}

// AppendFrameHeader appends the header of a frame with length payload bytes
// (RFC 9114 §7.1). A DATA frame is this header and then the body's bytes, which
// need not be copied behind it.
func AppendFrameHeader(b []byte, t FrameType, length uint64) []byte {
	return AppendVarint(AppendVarint(b, uint64(t)), length)
}

// AppendHeaders appends a HEADERS frame with an encoded field section, such as
// AppendFieldSection makes (RFC 9114 §7.2.2).
func AppendHeaders(b, section []byte) []byte {
	b = AppendFrameHeader(b, FrameHeaders, uint64(len(section)))
	return append(b, section...)
}

// AppendData appends a DATA frame with a copy of p (RFC 9114 §7.2.1).
func AppendData(b, p []byte) []byte {
	b = AppendFrameHeader(b, FrameData, uint64(len(p)))
	return append(b, p...)
}
