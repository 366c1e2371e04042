package h3frame

import "io"

// A Role says which stream a Decoder reads, and so which frames are legal on it
// (RFC 9114 §7, table 1).
type Role int

const (
	// RequestStream is a bidirectional stream as the server reads it.
	RequestStream Role = iota
	// ResponseStream is a bidirectional stream as the client reads it.
	ResponseStream
	// PushStream is a unidirectional stream with a pushed response, as the client
	// reads it, after its stream type and push ID.
	PushStream
	// ClientControlStream is the client's control stream as the server reads it,
	// after its stream type.
	ClientControlStream
	// ServerControlStream is the server's control stream as the client reads it,
	// after its stream type.
	ServerControlStream
)

// String names the role as errors and logs do.
func (r Role) String() string {
	switch r {
	case RequestStream:
		return "request"
	case ResponseStream:
		return "response"
	case PushStream:
		return "push"
	case ClientControlStream:
		return "client control"
	case ServerControlStream:
		return "server control"
	}
	return "unknown"
}

func (r Role) control() bool { return r == ClientControlStream || r == ServerControlStream }

// DefaultMaxControlPayload bounds the payloads on a control stream if no bound is
// given, in bytes.
const DefaultMaxControlPayload = 4 << 10

// Limits bound what a decoder holds of one frame. A frame that declares more is
// refused with H3_EXCESSIVE_LOAD as soon as its header is read. DATA and unknown
// frames need no limit, since they are never held whole. Zero or less means the
// default.
type Limits struct {
	// MaxFieldSectionSize bounds a field section, as RFC 9114 §4.2.2 counts it, and
	// the bytes of its encoding. It is what to announce as
	// SETTINGS_MAX_FIELD_SECTION_SIZE. Default 64 KiB.
	MaxFieldSectionSize int
	// MaxControlPayload bounds the payload of a SETTINGS or PRIORITY_UPDATE frame.
	// Default 4 KiB.
	MaxControlPayload int
}

func (l Limits) withDefaults() Limits {
	if l.MaxFieldSectionSize <= 0 {
		l.MaxFieldSectionSize = DefaultMaxFieldSectionSize
	}
	if l.MaxControlPayload <= 0 {
		l.MaxControlPayload = DefaultMaxControlPayload
	}
	return l
}

// A Decoder pulls the frames of one stream out of its Buffer, and the end of the
// stream after the last of them. It is owned by the goroutine that owns the Buffer.
type Decoder struct {
	tlvReader
	role   Role
	limits Limits
	passed uint64 // see PassedOver
	rules
}

// NewDecoder returns a Decoder for a stream of the given role.
func NewDecoder(role Role, limits Limits) *Decoder {
	return &Decoder{role: role, limits: limits.withDefaults(), rules: newRules()}
}

// HeadersSeen tells that Next has returned a header section that is not interim.
// An end of the stream without one is H3_REQUEST_INCOMPLETE at a server
// (RFC 9114 §4.1) and a malformed response at a client.
func (d *Decoder) HeadersSeen() bool { return !d.role.control() && d.order != beforeHead }

// Interim says that the HEADERS frame that Next returned last was a 1xx response,
// so that the next one is a head again and no trailer section (RFC 9114 §4.1).
// The Decoder cannot see this itself as it does not decode field sections. It
// does nothing on other streams, or at any other time.
func (d *Decoder) Interim() {
	if d.isHead && (d.role == ResponseStream || d.role == PushStream) {
		d.order, d.isHead = beforeHead, false
	}
}

// Tunnel says that the HEADERS frame that Next returned last completed a CONNECT,
// so that no known frame but DATA may follow (RFC 9114 §4.4, RFC 9220 §3).
func (d *Decoder) Tunnel() {
	if d.isHead {
		d.order, d.isHead = inTunnel, false
	}
}

// AllowPushes says that the pushes with IDs below n exist: at a client those that
// its MAX_PUSH_ID allowed, at a server those that it has promised. Frames that
// name another push are an H3_ID_ERROR (RFC 9114 §7.2.3, §7.2.5). At first none
// exists. To call it with a lower n than before does nothing.
func (d *Decoder) AllowPushes(n uint64) { d.pushes = max(d.pushes, n) }

// PassedOver returns how many frames Next has passed over: unknown ones and DATA
// frames without bytes. They cost a receiver work and bring it nothing, so that a
// peer that sends them in masses may be cut off (RFC 9114 §10.5).
func (d *Decoder) PassedOver() uint64 { return d.passed }

// Next returns the next frame, or the next piece of a DATA frame; see Frame for
// how long its payload is valid. Unknown frames (RFC 9114 §9) and DATA frames
// without bytes are passed over. Its errors are
//
//   - ErrNeedMore: feed the Buffer and call again. Every other error is final, and
//     later calls return the same value.
//   - io.EOF: a FIN at the end of a frame.
//   - *FrameError: the peer broke the protocol. If a close or reset was already
//     recorded behind the violation, it is the Cause. A FIN within a frame is such
//     a violation (RFC 9114 §7.1).
//   - *TruncatedError: the connection was closed within a frame.
//   - the error given to Buffer.Finish: the connection was closed at the end of a frame.
//   - the error given to Buffer.Reset, before any frame still buffered.
//
// On a control stream FIN and reset are H3_CLOSED_CRITICAL_STREAM (RFC 9114 §6.2.1).
func (d *Decoder) Next() (Frame, error) {
	if d.err != nil {
		return Frame{}, d.err
	}
	if d.buf.dropped { // by Reset or Release, since the Decoder has not failed
		return Frame{}, d.fail(d.cutOff())
	}
	// Each turn reads at least one byte or returns, so that time is linear in bytes.
	for {
		if len(d.buf.cur) == 0 {
			d.buf.advance()
		}
		if !d.within {
			if !d.header() {
				return Frame{}, d.starved()
			}
			if err := d.admit(); err != nil {
				return Frame{}, d.fail(err)
			}
			if len(d.buf.cur) == 0 {
				d.buf.advance()
			}
		}
		switch t := FrameType(d.typ); t {
		case FrameData:
			if p := d.piece(); len(p) > 0 {
				return Frame{Type: t, Length: d.length, Payload: p, More: d.within}, nil
			}
			if d.length == 0 {
				d.passed++
			}
		case FrameHeaders, FrameSettings, FrameGoAway, FrameCancelPush, FrameMaxPushID,
			FramePushPromise, FramePriorityUpdateRequest, FramePriorityUpdatePush:
			if p, ok := d.whole(); ok {
				f := Frame{Type: t, Length: d.length, Payload: p}
				if err := d.check(f); err != nil {
					return Frame{}, d.fail(err)
				}
				return f, nil
			}
		default:
			d.pass()
			if !d.within {
				d.passed++
			}
		}
		if d.within {
			return Frame{}, d.starved()
		}
	}
}

// starved returns what to do when the buffered bytes are used up: wait, or report
// the end of the stream.
func (d *Decoder) starved() error {
	end := d.buf.end
	if end == nil {
		d.buf.advance() // what was passed over need not wait for the next call
		return ErrNeedMore
	}
	switch {
	case isEOF(end) && d.cut():
		return d.fail(d.endsWithin())
	case isEOF(end) && d.role.control():
		return d.fail(&FrameError{Code: ErrCodeClosedCriticalStream, Reason: "control stream ended"})
	case isEOF(end) || !d.cut():
		return d.fail(end)
	}
	return d.fail(d.truncation(end))
}

// cutOff returns the error of a stream whose data was discarded.
func (d *Decoder) cutOff() error {
	err := d.discarded()
	if d.buf.reset && d.role.control() {
		return &FrameError{Code: ErrCodeClosedCriticalStream, Reason: "control stream reset", Cause: err}
	}
	return err
}

// endsWithin is a FIN within a frame (RFC 9114 §7.1). The cause is not io.EOF,
// lest the violation pass for it.
func (d *Decoder) endsWithin() error {
	err := &FrameError{Code: ErrCodeFrame, Reason: "stream ends within a frame header", Cause: io.ErrUnexpectedEOF}
	if d.within {
		err.Type = FrameType(d.typ)
		err.Reason = "stream ends within the payload of a " + err.Type.String() + " frame"
	}
	return err
}
