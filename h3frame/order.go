package h3frame

import "fmt"

// order is how far a stream's sequence of frames has come: on a message stream
// header section, body, trailer section (RFC 9114 §4.1), or after a CONNECT only
// body (§4.4); on a control stream SETTINGS and then the others (§6.2.1).
type order int

const (
	beforeHead order = iota
	afterHead
	afterTrailers
	inTunnel
	beforeSettings = beforeHead
	afterSettings  = afterHead
)

// rules are what a Decoder remembers to tell whether a frame is legal.
type rules struct {
	order     order
	isHead    bool   // the last HEADERS frame may yet turn out to be interim, or a CONNECT
	pushes    uint64 // pushes with IDs below it exist
	maxPushID uint64 // of the last MAX_PUSH_ID
	goAway    uint64 // of the last GOAWAY
}

func newRules() rules { return rules{goAway: MaxVarint} }

// admit decides by its header alone whether a frame may come here: what is
// forbidden, or too long, is refused without waiting for its payload.
func (d *Decoder) admit() error {
	t := FrameType(d.typ)
	if t == FrameData && d.order == afterHead && !d.role.control() {
		d.isHead = false
		return nil // most frames
	}
	switch {
	case t.reserved():
		return d.violation(ErrCodeFrameUnexpected, "frame type reserved for HTTP/2")
	case d.role.control():
		return d.admitControl(t)
	}
	switch t {
	case FrameData:
		return d.admitData()
	case FrameHeaders:
		return d.admitHeaders()
	case FramePushPromise:
		return d.admitPushPromise()
	case FrameSettings, FrameGoAway, FrameMaxPushID, FrameCancelPush,
		FramePriorityUpdateRequest, FramePriorityUpdatePush:
		return d.violation(ErrCodeFrameUnexpected, "belongs on the control stream")
	}
	return nil
}

func (d *Decoder) admitData() error {
	switch d.order {
	case beforeHead:
		return d.violation(ErrCodeFrameUnexpected, "body before a final header section")
	case afterTrailers:
		return d.violation(ErrCodeFrameUnexpected, "body after the trailer section")
	}
	return nil
}

func (d *Decoder) admitHeaders() error {
	d.isHead = false
	switch d.order {
	case afterTrailers:
		return d.violation(ErrCodeFrameUnexpected, "field section after the trailer section")
	case inTunnel:
		return d.violation(ErrCodeFrameUnexpected, "field section in a tunnel")
	}
	return d.atMost(d.limits.MaxFieldSectionSize)
}

// admitPushPromise is RFC 9114 §7.2.5: only servers send it, only on request
// streams, and anywhere in them but in a tunnel. The field section is held
// against its limit with the longest push ID before it.
func (d *Decoder) admitPushPromise() error {
	switch {
	case d.role == RequestStream:
		return d.violation(ErrCodeFrameUnexpected, "push from a client")
	case d.role == PushStream:
		return d.violation(ErrCodeFrameUnexpected, "push within a push")
	case d.order == inTunnel:
		return d.violation(ErrCodeFrameUnexpected, "push in a tunnel")
	case d.pushes == 0:
		return d.violation(ErrCodeID, "push that MAX_PUSH_ID did not allow")
	}
	return d.atMost(maxVarintLen + d.limits.MaxFieldSectionSize)
}

func (d *Decoder) admitControl(t FrameType) error {
	if d.order == beforeSettings && t != FrameSettings {
		return d.violation(ErrCodeMissingSettings, "control stream begins without SETTINGS")
	}
	switch t {
	case FrameSettings:
		if d.order == afterSettings {
			return d.violation(ErrCodeFrameUnexpected, "second SETTINGS") // RFC 9114 §7.2.4
		}
		d.order = afterSettings
		return d.atMost(d.limits.MaxControlPayload)
	case FrameData, FrameHeaders, FramePushPromise:
		return d.violation(ErrCodeFrameUnexpected, "belongs on a request stream")
	case FrameMaxPushID:
		if d.role == ServerControlStream {
			return d.violation(ErrCodeFrameUnexpected, "sent by a server") // RFC 9114 §7.2.7
		}
		return d.oneVarint()
	case FrameGoAway, FrameCancelPush:
		return d.oneVarint()
	case FramePriorityUpdateRequest, FramePriorityUpdatePush:
		if d.role == ServerControlStream {
			return d.violation(ErrCodeFrameUnexpected, "sent by a server") // RFC 9218 §7.2
		}
		return d.atMost(d.limits.MaxControlPayload)
	}
	return nil
}

// oneVarint refuses a length that no frame of one integer has.
func (d *Decoder) oneVarint() error {
	if d.length == 0 || d.length > maxVarintLen {
		return d.violation(ErrCodeFrame, "payload is not one integer")
	}
	return nil
}

func (d *Decoder) atMost(limit int) error {
	if d.length > uint64(limit) {
		return d.violation(ErrCodeExcessiveLoad, fmt.Sprintf("%d bytes declared, limit %d", d.length, limit))
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
	case FramePushPromise:
		id, _, err := ParsePushPromise(f.Payload)
		if err != nil {
			return d.withCause(err)
		}
		if id >= d.pushes {
			return d.violation(ErrCodeID, "push that MAX_PUSH_ID did not allow")
		}
	case FrameGoAway, FrameCancelPush, FrameMaxPushID:
		id, err := parseOneVarint(f.Type, f.Payload)
		if err != nil {
			return d.withCause(err)
		}
		return d.checkID(f.Type, id)
	case FramePriorityUpdateRequest, FramePriorityUpdatePush:
		id, _, err := splitPriorityUpdate(f.Payload)
		if err != nil {
			return d.withCause(err)
		}
		return d.checkID(f.Type, id)
	}
	return nil
}

// checkID holds the ID in a frame on a control stream against those before it and
// those that exist.
func (d *Decoder) checkID(t FrameType, id uint64) error {
	switch t {
	case FrameGoAway: // RFC 9114 §5.2, §7.2.6
		if d.role == ServerControlStream && !isRequestStream(id) {
			return d.violation(ErrCodeID, fmt.Sprintf("%d is the ID of no request stream", id))
		}
		if id > d.goAway {
			return d.violation(ErrCodeID, fmt.Sprintf("raised from %d to %d", d.goAway, id))
		}
		d.goAway = id
	case FrameCancelPush: // RFC 9114 §7.2.3
		if id >= d.pushes {
			return d.violation(ErrCodeID, "cancels a push that does not exist")
		}
	case FrameMaxPushID: // RFC 9114 §7.2.7
		if id < d.maxPushID {
			return d.violation(ErrCodeID, fmt.Sprintf("lowered from %d to %d", d.maxPushID, id))
		}
		d.maxPushID = id
	case FramePriorityUpdateRequest: // RFC 9218 §7.2
		if !isRequestStream(id) {
			return d.violation(ErrCodeID, fmt.Sprintf("%d is the ID of no request stream", id))
		}
	case FramePriorityUpdatePush:
		if id >= d.pushes {
			return d.violation(ErrCodeID, "prioritizes a push that does not exist")
		}
	}
	return nil
}

func (d *Decoder) violation(code ErrorCode, reason string) error {
	t := FrameType(d.typ)
	return d.withCause(&FrameError{Code: code, Type: t, Reason: t.String() + " frame: " + reason})
}

// withCause adds the close that is known to follow a violation. A FIN is none.
func (d *Decoder) withCause(err error) error {
	frameErr, ok := err.(*FrameError) //nolint:errorlint // made by this package a moment ago, never wrapped
	if ok && frameErr.Cause == nil && d.buf.end != nil && !isEOF(d.buf.end) {
		frameErr.Cause = d.buf.end
	}
	return err
}
