package h3frame

import "fmt"

// ParsePushPromise takes the payload of a PUSH_PROMISE frame apart into the push
// ID and the encoded field section of the promised request (RFC 9114 §7.2.5).
func ParsePushPromise(payload []byte) (pushID uint64, section []byte, err error) {
	id, n := ParseVarint(payload)
	if n == 0 {
		return 0, nil, &FrameError{Code: ErrCodeFrame, Type: FramePushPromise, Reason: "PUSH_PROMISE frame: ends within its push ID"}
	}
	return id, payload[n:], nil
}

// AppendPushPromise appends a PUSH_PROMISE frame for the request of an encoded
// field section. The push ID must be one that the client's MAX_PUSH_ID allows.
func AppendPushPromise(b []byte, pushID uint64, section []byte) []byte {
	b = AppendFrameHeader(b, FramePushPromise, uint64(VarintLen(pushID)+len(section)))
	return append(AppendVarint(b, pushID), section...)
}

// ParseCancelPush returns the push ID of a CANCEL_PUSH frame (RFC 9114 §7.2.3).
func ParseCancelPush(payload []byte) (pushID uint64, err error) {
	return parseOneVarint(FrameCancelPush, payload)
}

// AppendCancelPush appends a CANCEL_PUSH frame.
func AppendCancelPush(b []byte, pushID uint64) []byte {
	return appendOneVarint(b, FrameCancelPush, pushID)
}

// ParseMaxPushID returns the highest push ID that a server may use, which a client
// allows with a MAX_PUSH_ID frame (RFC 9114 §7.2.7).
func ParseMaxPushID(payload []byte) (pushID uint64, err error) {
	return parseOneVarint(FrameMaxPushID, payload)
}

// AppendMaxPushID appends a MAX_PUSH_ID frame, which only clients send.
func AppendMaxPushID(b []byte, pushID uint64) []byte {
	return appendOneVarint(b, FrameMaxPushID, pushID)
}

// AppendPushStreamHeader appends what a push stream begins with: its stream type
// and the push ID (RFC 9114 §4.6).
func AppendPushStreamHeader(b []byte, pushID uint64) []byte {
	return AppendVarint(AppendStreamType(b, StreamPush), pushID)
}

// parseOneVarint reads a payload that has to be exactly one integer.
func parseOneVarint(t FrameType, payload []byte) (uint64, error) {
	v, n := ParseVarint(payload)
	if n == 0 || n != len(payload) {
		return 0, &FrameError{Code: ErrCodeFrame, Type: t, Reason: fmt.Sprintf("%s frame: payload of %d bytes is not one integer", t, len(payload))}
	}
	return v, nil
}

func appendOneVarint(b []byte, t FrameType, v uint64) []byte {
	b = AppendFrameHeader(b, t, uint64(VarintLen(v)))
	return AppendVarint(b, v)
}
