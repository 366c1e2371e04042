package h3frame

import "fmt"

// A FrameType is the type of an HTTP/3 frame
// (https://www.rfc-editor.org/rfc/rfc9114#section-11.2.1).
type FrameType uint64

// The frame types of RFC 9114 §7.2 and RFC 9218 §7.2.
const (
	FrameData        FrameType = 0x0
	FrameHeaders     FrameType = 0x1
	FrameCancelPush  FrameType = 0x3
	FrameSettings    FrameType = 0x4
	FramePushPromise FrameType = 0x5
	FrameGoAway      FrameType = 0x7
	FrameMaxPushID   FrameType = 0xd

	FramePriorityUpdateRequest FrameType = 0xf0700
	FramePriorityUpdatePush    FrameType = 0xf0701
)

// Frame types that HTTP/2 uses and HTTP/3 has no counterpart for. Their receipt
// is an H3_FRAME_UNEXPECTED on every stream (RFC 9114 §7.2.8).
const (
	reservedPriority     FrameType = 0x2
	reservedPing         FrameType = 0x6
	reservedWindowUpdate FrameType = 0x8
	reservedContinuation FrameType = 0x9
)

// String returns the name in the RFC, or the number of a type without one. The
// two types of PRIORITY_UPDATE have one name.
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
	case FramePriorityUpdateRequest, FramePriorityUpdatePush:
		return "PRIORITY_UPDATE"
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

// Grease returns the nth of the numbers that RFC 9114 reserves so that peers
// prove they ignore what they do not know, 0x1f*n + 0x21: frame types (§7.2.8),
// stream types (§6.2.3), settings (§7.2.4.1) and error codes (§8.1).
func Grease(n uint64) uint64 { return 0x1f*n + 0x21 }
