package h3frame

import "fmt"

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

// streamTypes is the number of types above.
const streamTypes = 4

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

// Critical tells a stream whose end is an H3_CLOSED_CRITICAL_STREAM (RFC 9114
// §6.2.1, RFC 9204 §4.2).
func (t StreamType) Critical() bool { return t < streamTypes && t != StreamPush }

// ParseStreamType reads the type at the start of a unidirectional stream and
// returns it with the bytes it took; n == 0 means that b ends before it does. A
// stream that ends there is no error (RFC 9114 §6.2).
func ParseStreamType(b []byte) (t StreamType, n int) {
	v, n := ParseVarint(b)
	return StreamType(v), n
}

// AppendStreamType appends the preface of a unidirectional stream.
func AppendStreamType(b []byte, t StreamType) []byte {
	return AppendVarint(b, uint64(t))
}

// UniStreams holds the unidirectional streams that a peer opens against the rules
// of RFC 9114 §6.2. It belongs to one connection; the zero value is a server's.
type UniStreams struct {
	// Client tells that we are the client, which servers may push to.
	Client bool

	opened [streamTypes]bool
	pushed map[uint64]struct{}
}

// Open notes that the peer has opened a stream of type t. A second stream of a
// critical type, and a push stream from a client, are an H3_STREAM_CREATION_ERROR,
// which ends the connection. Streams of unknown types may be opened at will; they
// are to be given up with the same code (§6.2). OpenPush says more of a push.
func (u *UniStreams) Open(t StreamType) error {
	switch {
	case t == StreamPush && !u.Client:
		return &FrameError{Code: ErrCodeStreamCreation, Reason: "push stream from a client"}
	case !t.Critical():
		return nil
	case u.opened[t]:
		return &FrameError{Code: ErrCodeStreamCreation, Reason: "second " + t.String() + " stream"}
	}
	u.opened[t] = true
	return nil
}

// OpenPush notes the ID at the start of a push stream, after its type. An ID that
// is not below pushes, the number of pushes that MAX_PUSH_ID allows, or that
// another stream had, is an H3_ID_ERROR (RFC 9114 §4.6). It remembers the IDs, of
// which there are as many as were allowed.
func (u *UniStreams) OpenPush(id, pushes uint64) error {
	if id >= pushes {
		return &FrameError{Code: ErrCodeID, Reason: fmt.Sprintf("push stream for push %d, which MAX_PUSH_ID did not allow", id)}
	}
	if _, again := u.pushed[id]; again {
		return &FrameError{Code: ErrCodeID, Reason: fmt.Sprintf("second stream for push %d", id)}
	}
	if u.pushed == nil {
		u.pushed = make(map[uint64]struct{})
	}
	u.pushed[id] = struct{}{}
	return nil
}
