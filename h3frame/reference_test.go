package h3frame

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"
)

// reference decodes a whole stream at once, in the obvious way, and returns what
// a recorder would have written and how describe spells the end. It shares no
// code with the Decoder but the parsers of payloads and the names.
func reference(role Role, in []byte, end string) (log, ended string) {
	total := map[string]string{"FIN": "EOF", "close 0x100": errClose.Error(), "close other": errOther.Error(), "reset": errReset.Error()}[end]
	control := role == ControlStream || role == ServerControlStream
	fail := func(code ErrorCode, t FrameType, reason string) string {
		return fmt.Sprintf("%s %s: %s", code, t, reason)
	}
	var (
		out       strings.Builder
		heads     int // final header sections, or SETTINGS
		maxPushID uint64
		last      FrameType // the last frame whose header was whole
	)
	for len(in) > 0 {
		typ, length, header, ok := referenceHeader(in)
		if !ok {
			switch end {
			case "FIN":
				return out.String(), fail(ErrCodeFrame, last, "stream ends within a frame header")
			case "reset":
				return out.String(), referenceReset(control, total)
			}
			return out.String(), fmt.Sprintf("truncated header %d (%s)", len(in), total)
		}
		last = typ
		if code, reason := referenceLegal(role, typ, length, heads); code != 0 {
			return out.String(), fail(code, typ, typ.String()+" frame: "+reason)
		}
		in = in[header:]
		payload := in[:min(length, uint64(len(in)))]
		in = in[len(payload):]
		whole := uint64(len(payload)) == length
		switch typ {
		case FrameData:
			if len(payload) > 0 {
				fmt.Fprintf(&out, "\nDATA(%d) %s", length, payload)
			}
		case FrameHeaders, FrameSettings, FrameGoAway, FrameMaxPushID, FrameCancelPush:
			if !whole {
				break
			}
			if typ == FrameHeaders || typ == FrameSettings {
				heads++
			}
			if typ == FrameSettings {
				if _, err := ParseSettings(payload); err != nil {
					return out.String(), describe(err)
				}
			}
			if typ == FrameGoAway || typ == FrameMaxPushID || typ == FrameCancelPush {
				v, n, err := quicvarint.Parse(payload)
				switch {
				case err != nil || n != len(payload):
					return out.String(), fail(ErrCodeFrame, typ, fmt.Sprintf("%s frame: payload of %d bytes is not one integer", typ, length))
				case typ == FrameCancelPush:
					return out.String(), fail(ErrCodeID, typ, "CANCEL_PUSH frame: cancels a push that does not exist")
				case typ == FrameMaxPushID && v < maxPushID:
					return out.String(), fail(ErrCodeID, typ, "MAX_PUSH_ID frame: lowered")
				case typ == FrameMaxPushID:
					maxPushID = v
				}
			}
			fmt.Fprintf(&out, "\n%s %q", typ, payload)
			if role == ResponseStream && heads == 1 && isInterim(payload) {
				heads = 0
			}
		}
		if whole {
			continue
		}
		switch end {
		case "FIN":
			return out.String(), fail(ErrCodeFrame, typ, "stream ends within the payload of a "+typ.String()+" frame")
		case "reset":
			return out.String(), referenceReset(control, total)
		}
		return out.String(), fmt.Sprintf("truncated %s %d/%d (%s)", typ, len(payload), length, total)
	}
	switch {
	case end == "reset":
		return out.String(), referenceReset(control, total)
	case end == "FIN" && control:
		return out.String(), fail(ErrCodeClosedCriticalStream, 0, "control stream ended")
	}
	return out.String(), total
}

func referenceReset(control bool, reset string) string {
	if control {
		return fmt.Sprintf("%s %s: control stream reset", ErrCodeClosedCriticalStream, FrameType(0))
	}
	return reset
}

func referenceHeader(in []byte) (typ FrameType, length uint64, n int, ok bool) {
	t, n, err := quicvarint.Parse(in)
	if err != nil {
		return 0, 0, 0, false
	}
	length, m, err := quicvarint.Parse(in[n:])
	return FrameType(t), length, n + m, err == nil
}

// referenceLegal is RFC 9114 §7, table 1, and the order of frames.
func referenceLegal(role Role, t FrameType, length uint64, heads int) (ErrorCode, string) {
	control := role == ControlStream || role == ServerControlStream
	push := t == FrameGoAway || t == FrameMaxPushID || t == FrameCancelPush
	switch {
	case t == 0x2 || t == 0x6 || t == 0x8 || t == 0x9:
		return ErrCodeFrameUnexpected, "frame type reserved for HTTP/2"
	case control && heads == 0 && t != FrameSettings:
		return ErrCodeMissingSettings, "control stream begins without SETTINGS"
	case control && heads == 1 && t == FrameSettings:
		return ErrCodeFrameUnexpected, "second SETTINGS"
	case control && t == FrameSettings && length > DefaultMaxControlPayload:
		return ErrCodeExcessiveLoad, fmt.Sprintf("%d bytes declared, limit %d", length, DefaultMaxControlPayload)
	case control && (t == FrameData || t == FrameHeaders || t == FramePushPromise):
		return ErrCodeFrameUnexpected, "belongs on a request stream"
	case role == ServerControlStream && t == FrameMaxPushID:
		return ErrCodeFrameUnexpected, "sent by a server"
	case control && push && (length == 0 || length > 8):
		return ErrCodeFrame, "payload is not one integer"
	case control:
		return 0, ""
	case t == FrameSettings || push:
		return ErrCodeFrameUnexpected, "belongs on the control stream"
	case t == FramePushPromise && role == ResponseStream:
		return ErrCodeID, "push that MAX_PUSH_ID did not allow"
	case t == FramePushPromise:
		return ErrCodeFrameUnexpected, "push from a client"
	case t == FrameData && heads == 0:
		return ErrCodeFrameUnexpected, "body before a final header section"
	case t == FrameData && heads == 2:
		return ErrCodeFrameUnexpected, "body after the trailer section"
	case t == FrameHeaders && heads == 2:
		return ErrCodeFrameUnexpected, "field section after the trailer section"
	case t == FrameHeaders && length > DefaultMaxFieldSectionBytes:
		return ErrCodeExcessiveLoad, fmt.Sprintf("%d bytes declared, limit %d", length, DefaultMaxFieldSectionBytes)
	}
	return 0, ""
}

// FuzzDecoder compares the Decoder with the reference, for any bytes, cut into
// any chunks, of either kind, with Next called between them or not, and any end.
func FuzzDecoder(f *testing.F) {
	full := message().b
	control := transcript{}.settings().frame(0x21, "g").frame(FrameMaxPushID, "\x08").raw(string(AppendGoAway(nil, 8))).b
	for end := range endings {
		f.Add(uint8(ResponseStream), uint8(end), full, []byte{3, 130, 7})
		f.Add(uint8(RequestStream), uint8(end), full[:len(full)/2], []byte{1})
		f.Add(uint8(ControlStream), uint8(end), control, []byte{2, 200})
		f.Add(uint8(ServerControlStream), uint8(end), control, []byte{})
	}
	f.Add(uint8(RequestStream), uint8(1), transcript{}.headers("h").head(FrameData, 1<<40).raw("abc").b, []byte{0x81, 0x41})
	f.Add(uint8(RequestStream), uint8(1), transcript{}.head(FrameHeaders, 1<<61).b, []byte{5})
	f.Add(uint8(ResponseStream), uint8(3), []byte("0"), []byte{0x80, 0x80, 0x80}) // chunks of no bytes
	f.Add(uint8(ControlStream), uint8(0), transcript{}.settings().frame(FrameCancelPush, "\x01").b, []byte{5})
	f.Fuzz(func(t *testing.T, role, end uint8, in, cuts []byte) {
		r, e := Role(role%4), endings[int(end)%len(endings)]
		want, wantEnd := reference(r, in, e.name)
		d := NewDecoder(r, Limits{})
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
		got, reset := rec.log.String(), e.name == "reset"
		if got != want && (!reset || !strings.HasPrefix(want, got)) {
			t.Fatalf("delivered %s\nwant %s", got, want)
		}
		isReset := reset && describe(err) == referenceReset(d.isControl(), errReset.Error())
		if describe(err) != wantEnd && !isReset {
			t.Fatalf("ends with %q, want %q", describe(err), wantEnd)
		}
		if rec.calls > 3*(len(in)+len(cuts)+2) { // a cut of no bytes calls Next too
			t.Fatalf("%d calls for %d bytes", rec.calls, len(in))
		}
		wantSticky(t, d, err)
	})
}

// feedCuts feeds in: the low six bits of a cut are the length of a chunk, bit 6
// says to Reserve rather than Append, bit 7 to decode after it.
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
