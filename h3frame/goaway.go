package h3frame

// MaxRequestStreamID is the highest ID that a request stream can have. A server
// sends it in the first GOAWAY of a graceful shutdown, which refuses nothing yet
// (RFC 9114 §5.2).
const MaxRequestStreamID = MaxVarint - 3

// isRequestStream tells the ID of a client-initiated bidirectional stream
// (RFC 9000 §2.1).
func isRequestStream(id uint64) bool { return id%4 == 0 }

// ParseGoAway returns the ID in the payload of a GOAWAY frame: of a request stream
// from a server, of a push from a client (RFC 9114 §7.2.6). A payload that is not
// one integer is an H3_FRAME_ERROR (§7.1). That the ID is of the right kind, and
// no higher than the last, the Decoder has checked.
func ParseGoAway(payload []byte) (uint64, error) {
	return parseOneVarint(FrameGoAway, payload)
}

// AppendGoAway appends a GOAWAY frame with the given stream or push ID. Each that
// is sent must be no higher than the last (RFC 9114 §5.2).
func AppendGoAway(b []byte, id uint64) []byte {
	return appendOneVarint(b, FrameGoAway, id)
}
