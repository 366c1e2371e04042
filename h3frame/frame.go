package h3frame

// MaxFrameHeaderLen is the longest frame header in bytes: two integers.
const MaxFrameHeaderLen = 2 * maxVarintLen

// A Frame is one frame that a Decoder returned, or a piece of a DATA frame.
type Frame struct {
	Type   FrameType
	Length uint64 // payload bytes that the frame's header declares

	// Payload is the next contiguous piece of a DATA frame, and the whole payload
	// of any other; ParseSettings, ParseGoAway and their like take it apart. It
	// points into the Decoder's memory and is valid until the next call to Next or
	// to Buffer.Release.
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
