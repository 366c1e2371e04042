package h3frame

import "fmt"

// order is how far a stream's sequence of frames has come: on a message stream
// header section, body, trailer section (RFC 9114 §4.1); on a control stream
// SETTINGS and then the others (§6.2.1).
type order int

const (
	beforeHead order = iota
	afterHead
	afterTrailers
	beforeSettings = beforeHead
	afterSettings  = afterHead
)

// admit decides by its header alone whether a frame may come here: what is
// forbidden, or too long, is refused without waiting for its payload.
func (d *Decoder) admit() error {
	if d.typ.reserved() {
		return d.violation(ErrCodeFrameUnexpected, "frame type reserved for HTTP/2")
	}
	if d.isControl() {
		return d.admitControl()
	}
	switch d.typ {
	case FrameData:
		d.isHead = false
		if d.order == beforeHead {
			return d.violation(ErrCodeFrameUnexpected, "body before a final header section")
		}
		if d.order == afterTrailers {
			return d.violation(ErrCodeFrameUnexpected, "body after the trailer section")
		}
	case FrameHeaders:
		d.isHead = false
		if d.order == afterTrailers {
			return d.violation(ErrCodeFrameUnexpected, "field section after the trailer section")
		}
		if d.length > uint64(d.limits.MaxFieldSectionBytes) {
			return d.tooLong(d.limits.MaxFieldSectionBytes)
		}
	case FramePushPromise:
		// RFC 9114 §7.2.5: only servers send it, and never above a MAX_PUSH_ID,
		// of which we send none.
		if d.role == ResponseStream {
			return d.violation(ErrCodeID, "push that MAX_PUSH_ID did not allow")
		}
		return d.violation(ErrCodeFrameUnexpected, "push from a client")
	case FrameSettings, FrameGoAway, FrameMaxPushID, FrameCancelPush:
		return d.violation(ErrCodeFrameUnexpected, "belongs on the control stream")
	}
	return nil
}

func (d *Decoder) admitControl() error {
	if d.order == beforeSettings && d.typ != FrameSettings {
		return d.violation(ErrCodeMissingSettings, "control stream begins without SETTINGS")
	}
	switch d.typ {
	case FrameSettings:
		if d.order == afterSettings {
			return d.violation(ErrCodeFrameUnexpected, "second SETTINGS") // RFC 9114 §7.2.4
		}
		if d.length > uint64(d.limits.MaxControlPayload) {
			return d.tooLong(d.limits.MaxControlPayload)
		}
		d.order = afterSettings
	case FrameData, FrameHeaders, FramePushPromise:
		return d.violation(ErrCodeFrameUnexpected, "belongs on a request stream")
	case FrameMaxPushID:
		if d.role == ServerControlStream {
			return d.violation(ErrCodeFrameUnexpected, "sent by a server") // RFC 9114 §7.2.7
		}
		return d.admitVarint()
	case FrameGoAway, FrameCancelPush:
		return d.admitVarint()
	}
	return nil
}

// admitVarint refuses a length that no frame of one integer has.
func (d *Decoder) admitVarint() error {
	if d.length == 0 || d.length > maxVarintLen {
		return d.violation(ErrCodeFrame, "payload is not one integer")
	}
	return nil
}

// check looks into the payload of a whole frame, and moves the order on.
func (d *Decoder) check(f Frame) error {
	switch f.Type {
	case FrameHeaders:
		d.isHead = d.order == beforeHead
		d.order++
	case FrameSettings:
		_, err := ParseSettings(f.Payload)
		return d.withCause(err)
	case FrameGoAway:
		_, err := ParseGoAway(f.Payload)
		return d.withCause(err)
	case FrameCancelPush:
		if _, err := parseOneVarint(f.Type, f.Payload); err != nil {
			return d.withCause(err)
		}
		// RFC 9114 §7.2.3: it names a push that nobody promised, as we never
		// promise one and never allow one.
		return d.violation(ErrCodeID, "cancels a push that does not exist")
	case FrameMaxPushID:
		v, err := parseOneVarint(f.Type, f.Payload)
		if err != nil {
			return d.withCause(err)
		}
		if v < d.pushLimit {
			return d.violation(ErrCodeID, "lowered") // RFC 9114 §7.2.7
		}
		d.pushLimit = v
	}
	return nil
}

func (d *Decoder) tooLong(limit int) error {
	return d.violation(ErrCodeExcessiveLoad, fmt.Sprintf("%d bytes declared, limit %d", d.length, limit))
}

func (d *Decoder) violation(code ErrorCode, reason string) error {
	return d.withCause(&FrameError{Code: code, Type: d.typ, Reason: d.typ.String() + " frame: " + reason})
}

// withCause adds the close that is known to follow a violation. A FIN is none.
func (d *Decoder) withCause(err error) error {
	frameErr, ok := err.(*FrameError) //nolint:errorlint // made by this package a moment ago, never wrapped
	if ok && frameErr.Cause == nil && d.buf.end != nil && !isEOF(d.buf.end) {
		frameErr.Cause = d.buf.end
	}
	return err
}
