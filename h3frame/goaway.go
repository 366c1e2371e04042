package h3frame

import "fmt"

// MaxRequestStreamID is the highest ID that a request stream can have. A server
// sends it in the first GOAWAY of a graceful shutdown, which refuses nothing yet
// (RFC 9114 §5.2).
const MaxRequestStreamID = MaxVarint - 3

// ParseGoAway returns the ID in the payload of a GOAWAY frame: of a request stream
// from a server, of a push from a client (RFC 9114 §7.2.6). A payload that is not
// one integer is an H3_FRAME_ERROR (§7.1). Whether the ID is of the right kind,
// and no higher than the last, is for the caller to check.
func ParseGoAway(payload []byte) (uint64, error) {
	return parseOneVarint(FrameGoAway, payload)
}

// AppendGoAway appends a GOAWAY frame with the given stream or push ID.
func AppendGoAway(b []byte, id uint64) []byte {
	b = AppendFrameHeader(b, FrameGoAway, uint64(VarintLen(id)))
	return AppendVarint(b, id)
}

// parseOneVarint reads a payload that has to be exactly one integer.
func parseOneVarint(t FrameType, payload []byte) (uint64, error) {
	v, n := ParseVarint(payload)
	if n == 0 || n != len(payload) {
		return 0, &FrameError{Code: ErrCodeFrame, Type: t, Reason: fmt.Sprintf("%s frame: payload of %d bytes is not one integer", t, len(payload))}
	}
	return v, nil
}
