package h3frame

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"
)

// The model: a slow decoder that has the whole stream at once, and goes through
// it in the obvious way. It shares nothing with the Decoder but the parsers of
// payloads that have tests of their own, and the names.

// A model is what it knows of a stream on its way through.
type model struct {
	role   Role
	pushes uint64
	end    ending

	out       strings.Builder
	heads     int // final header sections, or SETTINGS
	maxPushID uint64
	goAway    uint64
}

// violation is how the model ends where the peer broke a rule.
type violation struct {
	code   ErrorCode
	typ    FrameType
	reason string
}

func (v *violation) String() string { return fmt.Sprintf("%s %s: %s", v.code, v.typ, v.reason) }

// reference returns what a recorder would have written of the stream in, and how
// describe spells its end.
func reference(role Role, pushes uint64, in []byte, end ending) (log, ended string) {
	m := &model{role: role, pushes: pushes, end: end, goAway: MaxVarint}
	ended = m.run(in)
	return m.out.String(), ended
}

func (m *model) run(in []byte) (ended string) {
	for len(in) > 0 {
		typ, length, header, ok := referenceHeader(in)
		if !ok {
			return m.cut(0, "a frame header", fmt.Sprintf("truncated header %d", len(in)))
		}
		if v := m.legal(typ, length); v != nil {
			return v.String()
		}
		in = in[header:]
		payload := in[:min(length, uint64(len(in)))]
		in = in[len(payload):]
		if typ == FrameData && len(payload) > 0 {
			fmt.Fprintf(&m.out, "\nDATA(%d) %s", length, payload)
		}
		if uint64(len(payload)) < length {
			return m.cut(typ, "the payload of a "+typ.String()+" frame", fmt.Sprintf("truncated %s %d/%d", typ, len(payload), length))
		}
		if returned := []FrameType{FrameHeaders, FrameCancelPush, FrameSettings, FramePushPromise, FrameGoAway, FrameMaxPushID,
			FramePriorityUpdateRequest, FramePriorityUpdatePush}; !slices.Contains(returned, typ) {
			continue
		}
		if ended := m.payload(typ, payload); ended != "" {
			return ended
		}
		fmt.Fprintf(&m.out, "\n%s %q", typ, payload)
		m.count(typ, payload)
	}
	if m.end.name == fin && m.control() {
		return (&violation{ErrCodeClosedCriticalStream, 0, "control stream ended"}).String()
	}
	return m.ended()
}

// ended is how the stream ends at the end of a frame, or anywhere by a reset.
func (m *model) ended() string {
	if m.end.name == reset && m.control() {
		return (&violation{ErrCodeClosedCriticalStream, 0, "control stream reset"}).String()
	}
	return m.end.err.Error()
}

// cut is how it ends within one.
func (m *model) cut(t FrameType, place, truncated string) string {
	switch m.end.name {
	case fin:
		return (&violation{ErrCodeFrame, t, "stream ends within " + place}).String()
	case reset:
		return m.ended()
	}
	return fmt.Sprintf("%s (%s)", truncated, m.end.err)
}

func (m *model) control() bool { return m.role == ClientControlStream || m.role == ServerControlStream }

// count moves on what the frames so far decide.
func (m *model) count(typ FrameType, payload []byte) {
	if typ == FrameHeaders || typ == FrameSettings {
		m.heads++
	}
	if typ == FrameHeaders && m.heads == 1 && (m.role == ResponseStream || m.role == PushStream) && isInterim(payload) {
		m.heads = 0
	}
	if typ == FrameHeaders && m.heads == 1 && isConnect(payload) {
		m.heads = 10
	}
}

func referenceHeader(in []byte) (typ FrameType, length uint64, n int, ok bool) {
	t, n, err := quicvarint.Parse(in)
	if err != nil {
		return 0, 0, 0, false
	}
	length, m, err := quicvarint.Parse(in[n:])
	return FrameType(t), length, n + m, err == nil
}

// legal is RFC 9114 §7, table 1, the order of frames, and the limits.
func (m *model) legal(t FrameType, length uint64) *violation {
	no := func(code ErrorCode, reason string) *violation {
		return &violation{code, t, t.String() + " frame: " + reason}
	}
	excessive := func(limit int) *violation {
		return no(ErrCodeExcessiveLoad, fmt.Sprintf("%d bytes declared, limit %d", length, limit))
	}
	oneID := t == FrameGoAway || t == FrameMaxPushID || t == FrameCancelPush
	priority := t == FramePriorityUpdateRequest || t == FramePriorityUpdatePush
	if t == 0x2 || t == 0x6 || t == 0x8 || t == 0x9 {
		return no(ErrCodeFrameUnexpected, "frame type reserved for HTTP/2")
	}
	if m.control() {
		switch {
		case m.heads == 0 && t != FrameSettings:
			return no(ErrCodeMissingSettings, "control stream begins without SETTINGS")
		case m.heads == 1 && t == FrameSettings:
			return no(ErrCodeFrameUnexpected, "second SETTINGS")
		case t == FrameData || t == FrameHeaders || t == FramePushPromise:
			return no(ErrCodeFrameUnexpected, "belongs on a request stream")
		case m.role == ServerControlStream && (t == FrameMaxPushID || priority):
			return no(ErrCodeFrameUnexpected, "sent by a server")
		case oneID && (length == 0 || length > 8):
			return no(ErrCodeFrame, "payload is not one integer")
		case (t == FrameSettings || priority) && length > DefaultMaxControlPayload:
			return excessive(DefaultMaxControlPayload)
		}
		return nil
	}
	switch {
	case t == FrameSettings || oneID || priority:
		return no(ErrCodeFrameUnexpected, "belongs on the control stream")
	case t == FramePushPromise && m.role == RequestStream:
		return no(ErrCodeFrameUnexpected, "push from a client")
	case t == FramePushPromise && m.role == PushStream:
		return no(ErrCodeFrameUnexpected, "push within a push")
	case t == FramePushPromise && m.heads == 10:
		return no(ErrCodeFrameUnexpected, "push in a tunnel")
	case t == FramePushPromise && m.pushes == 0:
		return no(ErrCodeID, "push that MAX_PUSH_ID did not allow")
	case t == FramePushPromise && length > DefaultMaxFieldSectionSize+8:
		return excessive(DefaultMaxFieldSectionSize + 8)
	case t == FrameData && m.heads == 0:
		return no(ErrCodeFrameUnexpected, "body before a final header section")
	case t == FrameData && m.heads == 2:
		return no(ErrCodeFrameUnexpected, "body after the trailer section")
	case t == FrameHeaders && m.heads == 2:
		return no(ErrCodeFrameUnexpected, "field section after the trailer section")
	case t == FrameHeaders && m.heads == 10:
		return no(ErrCodeFrameUnexpected, "field section in a tunnel")
	case t == FrameHeaders && length > DefaultMaxFieldSectionSize:
		return excessive(DefaultMaxFieldSectionSize)
	}
	return nil
}

// payload checks one that is whole. It returns how that ends the stream, "" if it
// does not.
func (m *model) payload(t FrameType, payload []byte) string {
	no := func(code ErrorCode, format string, args ...any) string {
		return (&violation{code, t, t.String() + " frame: " + fmt.Sprintf(format, args...)}).String()
	}
	id, n, err := quicvarint.Parse(payload)
	switch t {
	case FrameSettings:
		if _, err := ParseSettings(payload); err != nil {
			return describe(err)
		}
		return ""
	case FrameHeaders:
		return ""
	case FrameGoAway, FrameMaxPushID, FrameCancelPush:
		if err != nil || n != len(payload) {
			return no(ErrCodeFrame, "payload of %d bytes is not one integer", len(payload))
		}
	case FramePushPromise:
		if err != nil {
			return no(ErrCodeFrame, "ends within its push ID")
		}
	case FramePriorityUpdateRequest, FramePriorityUpdatePush:
		if err != nil {
			return (&violation{ErrCodeFrame, FramePriorityUpdateRequest, "PRIORITY_UPDATE frame: ends within its ID"}).String()
		}
	}
	switch t {
	case FrameGoAway:
		if m.role == ServerControlStream && id%4 != 0 {
			return no(ErrCodeID, "%d is the ID of no request stream", id)
		}
		if id > m.goAway {
			return no(ErrCodeID, "raised from %d to %d", m.goAway, id)
		}
		m.goAway = id
	case FrameMaxPushID:
		if id < m.maxPushID {
			return no(ErrCodeID, "lowered from %d to %d", m.maxPushID, id)
		}
		m.maxPushID = id
	case FrameCancelPush:
		if id >= m.pushes {
			return no(ErrCodeID, "cancels a push that does not exist")
		}
	case FramePushPromise:
		if id >= m.pushes {
			return no(ErrCodeID, "push that MAX_PUSH_ID did not allow")
		}
	case FramePriorityUpdateRequest:
		if id%4 != 0 {
			return no(ErrCodeID, "%d is the ID of no request stream", id)
		}
	case FramePriorityUpdatePush:
		if id >= m.pushes {
			return no(ErrCodeID, "prioritizes a push that does not exist")
		}
	}
	return ""
}

// agree holds what a decoder did against the model: rec is what it returned in
// all, err its end, known whether the whole stream was there before the end was.
func agree(t testing.TB, d *Decoder, rec *recorder, err error, end ending, want, wantEnd string) {
	t.Helper()
	got, isReset := rec.log.String(), end.name == reset
	// A reset hides what had not been returned before it, a violation included.
	if got != want && (!isReset || !strings.HasPrefix(want, got)) {
		t.Fatalf("%s, %s: delivered %s\nwant %s", d.role, end.name, got, want)
	}
	early := isReset && describe(err) == (&model{role: d.role, end: end}).ended()
	if describe(err) != wantEnd && !early {
		t.Fatalf("%s, %s: ends with %q, want %q", d.role, end.name, describe(err), wantEnd)
	}
	wantSticky(t, d, err)
}

var roles = []Role{RequestStream, ResponseStream, PushStream, ClientControlStream, ServerControlStream}

// FuzzDecoder compares the Decoder with the model, for any bytes, cut into any
// chunks, on any stream, with Next called between them or not, and any end.
func FuzzDecoder(f *testing.F) {
	for _, role := range roles {
		in := transcripts[role].b
		for end := range endings {
			f.Add(uint8(role), uint8(end), in, []byte{3, 130, 7})
			f.Add(uint8(role), uint8(end), in[:len(in)/2], []byte{1, 0x41, 0x81})
		}
	}
	f.Add(uint8(RequestStream), uint8(1), transcript{}.headers("h").head(FrameData, 1<<40).raw("abc").b, []byte{0x81, 0x41})
	f.Add(uint8(RequestStream), uint8(1), transcript{}.head(FrameHeaders, 1<<61).b, []byte{5})
	f.Add(uint8(ResponseStream), uint8(3), []byte("0"), []byte{0x80, 0x80, 0x80}) // chunks of no bytes
	f.Add(uint8(ClientControlStream), uint8(0), transcript{}.settings().frame(FrameCancelPush, "\x01").b, []byte{5})
	f.Fuzz(func(t *testing.T, role, end uint8, in, cuts []byte) {
		r, e := roles[int(role)%len(roles)], endings[int(end)%len(endings)]
		pushes := uint64(role) / uint64(len(roles)) % 8
		want, wantEnd := reference(r, pushes, in, e)
		d := NewDecoder(r, Limits{})
		d.AllowPushes(pushes)
		var rec recorder
		var early error // a violation that Next met before the end was known
		feedCuts(d.Buffer(), in, cuts, func() {
			if err := rec.drain(t, d); err != ErrNeedMore {
				early = err
			}
		})
		e.apply(d.Buffer())
		err := rec.drain(t, d)
		if early != nil && err != early {
			t.Fatalf("%v became %v", early, err)
		}
		if rec.calls > 3*(len(in)+len(cuts)+2) { // a cut of no bytes calls Next too
			t.Fatalf("%d calls for %d bytes", rec.calls, len(in))
		}
		agree(t, d, &rec, err, e, want, wantEnd)
	})
}

// feedCuts feeds in: the low six bits of a cut are the length of a chunk, bit 6
// says to Reserve rather than Append, bit 7 to decode after it. What follows the
// last cut is one chunk.
func feedCuts(b *Buffer, in, cuts []byte, next func()) {
	for i := 0; len(in) > 0; i++ {
		n, reserve, decode := len(in), false, false
		if i < len(cuts) {
			n, reserve, decode = min(n, int(cuts[i]&0x3f)), cuts[i]&0x40 != 0, cuts[i]&0x80 != 0
		}
		if reserve {
			n = copy(b.Reserve(), in[:n])
			b.Commit(n)
		} else {
			b.Append(in[:n])
		}
		in = in[n:]
		if decode {
			next()
		}
		if b.dropped {
			return
		}
	}
}
