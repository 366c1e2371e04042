package h3frame

import (
	"fmt"
	"io"
)

// A Role says which stream a Decoder reads, and so which frames are legal on it
// (RFC 9114 §7, table 1).
type Role int

const (
	// RequestStream is a bidirectional stream as the server reads it.
	RequestStream Role = iota
	// ResponseStream is a bidirectional stream as the client reads it.
	ResponseStream
	// ControlStream is the peer's control stream, after its stream type.
	ControlStream
	// ServerControlStream is a ControlStream that the client reads: MAX_PUSH_ID,
	// which only clients send, is refused there (RFC 9114 §7.2.7).
	ServerControlStream
)

// The Limits of a zero value.
const (
	DefaultMaxFieldSectionBytes = 64 << 10
	DefaultMaxControlPayload    = 4 << 10
)

// Limits bound what a Decoder holds of one frame. A frame that declares more is
// refused with H3_EXCESSIVE_LOAD as soon as its header is read. DATA and unknown
// frames need no limit, since they are never held whole. Zero or less means the
// default.
type Limits struct {
	MaxFieldSectionBytes int // encoded payload of a HEADERS frame; default 64 KiB
	MaxControlPayload    int // payload of a SETTINGS frame; default 4 KiB
}

// A Decoder pulls the frames of one stream out of its Buffer, and the end of the
// stream after the last of them. It is owned by the goroutine that owns the Buffer.
type Decoder struct {
	buf     Buffer
	role    Role
	limits  Limits
	scratch []byte // a payload that spans chunks
	err     error  // sticky

	inFrame bool      // a frame header was read, and left bytes of its payload were not
	typ     FrameType // of that frame
	length  uint64
	left    uint64

	order     order
	isHead    bool   // the last HEADERS frame may yet turn out to be interim
	pushLimit uint64 // the last MAX_PUSH_ID
}

// NewDecoder returns a Decoder for a stream of the given role.
func NewDecoder(role Role, limits Limits) *Decoder {
	if limits.MaxFieldSectionBytes <= 0 {
		limits.MaxFieldSectionBytes = DefaultMaxFieldSectionBytes
	}
	if limits.MaxControlPayload <= 0 {
		limits.MaxControlPayload = DefaultMaxControlPayload
	}
	return &Decoder{role: role, limits: limits}
}

// Buffer returns the buffer to feed.
func (d *Decoder) Buffer() *Buffer { return &d.buf }

// HeadersSeen tells that Next has returned a header section that is not interim.
// An end of the stream without one is H3_REQUEST_INCOMPLETE at a server
// (RFC 9114 §4.1) and a malformed response at a client.
func (d *Decoder) HeadersSeen() bool { return !d.isControl() && d.order != beforeHead }

// Interim says that the HEADERS frame that Next returned last was a 1xx response,
// so that the next one is a head again and no trailer section (RFC 9114 §4.1).
// The Decoder cannot see this itself as it does not decode field sections. It
// does nothing on other streams, or at any other time.
func (d *Decoder) Interim() {
	if d.role == ResponseStream && d.isHead {
		d.order, d.isHead = beforeHead, false
	}
}

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
	if d.buf.reset || d.buf.released {
		return Frame{}, d.fail(d.cutOff())
	}
	// Each turn reads at least one byte or returns, so that time is linear in bytes.
	for {
		d.buf.reclaim()
		if !d.inFrame {
			if !d.readHeader() {
				return Frame{}, d.starved()
			}
			if err := d.admit(); err != nil {
				return Frame{}, d.fail(err)
			}
			d.buf.reclaim()
		}
		switch d.typ {
		case FrameData:
			if f, ok := d.readData(); ok {
				return f, nil
			}
		case FrameHeaders, FrameSettings, FrameGoAway, FrameCancelPush, FrameMaxPushID:
			if uint64(d.buf.unread) >= d.length {
				f := d.readWhole()
				if err := d.check(f); err != nil {
					return Frame{}, d.fail(err)
				}
				return f, nil
			}
		default:
			n := min(d.left, uint64(d.buf.unread))
			d.buf.skip(int(n))
			d.left -= n
			d.inFrame = d.left > 0
		}
		if d.inFrame {
			return Frame{}, d.starved()
		}
	}
}

// readHeader reads a frame header, all or nothing, so that a header cut at any
// byte is looked at again from its start: 16 bytes at most.
func (d *Decoder) readHeader() bool {
	var scratch [MaxFrameHeaderLen]byte
	p := d.buf.peek(scratch[:])
	typ, n := ParseVarint(p)
	if n == 0 {
		return false
	}
	length, m := ParseVarint(p[n:])
	if m == 0 {
		return false
	}
	d.buf.skip(n + m)
	d.inFrame, d.typ, d.length, d.left = true, FrameType(typ), length, length
	return true
}

// readData returns the part of a DATA payload that the first chunk has.
func (d *Decoder) readData() (Frame, bool) {
	p := d.buf.front()
	n := int(min(d.left, uint64(len(p))))
	p = p[:n:n] // no capacity, lest an append by the caller write over what follows
	d.buf.skip(n)
	d.left -= uint64(n)
	d.inFrame = d.left > 0
	return Frame{Type: FrameData, Length: d.length, Payload: p, More: d.inFrame}, n > 0
}

// readWhole returns a frame whose payload is buffered, copied only if it spans chunks.
func (d *Decoder) readWhole() Frame {
	n := int(d.length)
	p := d.buf.front()
	if len(p) < n {
		if cap(d.scratch) < n {
			d.scratch = make([]byte, n)
		}
		p = d.buf.peek(d.scratch[:n])
	}
	d.buf.skip(n)
	d.inFrame, d.left = false, 0
	return Frame{Type: d.typ, Length: d.length, Payload: p[:n:n]}
}

// starved returns what to do when the buffered bytes are used up: wait, or report
// the end of the stream.
func (d *Decoder) starved() error {
	end := d.buf.end
	if end == nil {
		d.buf.reclaim() // what was skipped need not wait for the next call
		return ErrNeedMore
	}
	cut := d.inFrame || d.buf.unread > 0
	switch {
	case isEOF(end) && cut:
		// RFC 9114 §7.1. The cause is not io.EOF, lest the violation pass for it.
		return d.fail(&FrameError{Code: ErrCodeFrame, Type: d.typ, Reason: "stream ends within " + d.place(), Cause: io.ErrUnexpectedEOF})
	case isEOF(end) && d.isControl():
		return d.fail(&FrameError{Code: ErrCodeClosedCriticalStream, Reason: "control stream ended"})
	case isEOF(end) || !cut:
		return d.fail(end)
	case !d.inFrame:
		return d.fail(&TruncatedError{Header: true, Got: uint64(d.buf.unread), Err: end})
	}
	// What is unread belongs to a payload that is returned only whole.
	got := d.length - d.left + uint64(d.buf.unread)
	return d.fail(&TruncatedError{Type: d.typ, Got: got, Want: d.length, Err: end})
}

// cutOff returns the error of a stream whose data was discarded.
func (d *Decoder) cutOff() error {
	switch {
	case d.buf.end == nil || isEOF(d.buf.end):
		return ErrReleased // to say io.EOF here would call what was discarded complete
	case d.buf.reset && d.isControl():
		return &FrameError{Code: ErrCodeClosedCriticalStream, Reason: "control stream reset", Cause: d.buf.end}
	}
	return d.buf.end
}

// place says where in a frame the input ended.
func (d *Decoder) place() string {
	if !d.inFrame {
		return "a frame header"
	}
	return fmt.Sprintf("the payload of a %s frame", d.typ)
}

// fail makes err the answer to this and every later call.
func (d *Decoder) fail(err error) error {
	d.err = err
	d.scratch = nil
	d.buf.discard()
	return err
}

func (d *Decoder) isControl() bool { return d.role == ControlStream || d.role == ServerControlStream }

// isEOF tells a FIN from a close whose error merely wraps io.EOF, as a broken
// network's may.
func isEOF(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}
