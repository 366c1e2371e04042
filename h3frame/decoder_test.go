package h3frame

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestOrder has the rules about which frames come where (RFC 9114 §4.1, §6.2.1,
// §7.2). The stream stays open, so that a violation shows without its end.
func TestOrder(t *testing.T) {
	var s transcript
	msg, trailed := s.headers("h").data("b"), s.headers("h").data("b").headers("t")
	ctl := s.settings()
	for _, tc := range []struct {
		name string
		role Role
		in   transcript
		want ErrorCode // 0: legal
	}{
		{"message", RequestStream, trailed, 0},
		{"message without body", RequestStream, s.headers("h").headers("t"), 0},
		{"unknown first", RequestStream, s.frame(0x21, "x").headers("h"), 0},
		{"unknown after trailers", RequestStream, trailed.frame(0x21, "x"), 0},
		{"DATA first", RequestStream, s.data("b"), ErrCodeFrameUnexpected},
		{"zero-length DATA first", RequestStream, s.data(""), ErrCodeFrameUnexpected},
		{"DATA after trailers", RequestStream, trailed.data("b"), ErrCodeFrameUnexpected},
		{"zero-length DATA after trailers", ResponseStream, trailed.data(""), ErrCodeFrameUnexpected},
		{"HEADERS after trailers", RequestStream, trailed.headers("x"), ErrCodeFrameUnexpected},
		{"SETTINGS on a request", RequestStream, msg.settings(), ErrCodeFrameUnexpected},
		{"GOAWAY on a request", RequestStream, s.frame(FrameGoAway, "\x00"), ErrCodeFrameUnexpected},
		{"MAX_PUSH_ID on a request", RequestStream, s.frame(FrameMaxPushID, "\x00"), ErrCodeFrameUnexpected},
		{"CANCEL_PUSH on a response", ResponseStream, msg.frame(FrameCancelPush, "\x00"), ErrCodeFrameUnexpected},
		{"SETTINGS after trailers", RequestStream, trailed.settings(), ErrCodeFrameUnexpected},
		{"PUSH_PROMISE from a client", RequestStream, msg.frame(FramePushPromise, "\x00"), ErrCodeFrameUnexpected},
		{"PUSH_PROMISE from a server", ResponseStream, msg.head(FramePushPromise, 1<<30), ErrCodeID},
		{"PRIORITY of HTTP/2", RequestStream, s.head(0x2, 5), ErrCodeFrameUnexpected},
		{"PING of HTTP/2", ResponseStream, s.head(0x6, 5), ErrCodeFrameUnexpected},
		{"WINDOW_UPDATE of HTTP/2", ClientControlStream, ctl.head(0x8, 5), ErrCodeFrameUnexpected},
		{"CONTINUATION of HTTP/2", RequestStream, trailed.head(0x9, 5), ErrCodeFrameUnexpected},
		{"interim", ResponseStream, s.headers("100").headers("103").headers("h").data("b").headers("t"), 0},
		{"DATA after interim", ResponseStream, s.headers("103").data("b"), ErrCodeFrameUnexpected},
		{"no interim in requests", RequestStream, s.headers("100").headers("t").headers("x"), ErrCodeFrameUnexpected},
		{"no interim after a body", ResponseStream, msg.headers("100").headers("x"), ErrCodeFrameUnexpected},
		{"control", ClientControlStream, ctl.frame(0x21, "x").frame(FrameGoAway, "\x04").frame(FrameMaxPushID, "\x08").frame(FrameMaxPushID, "\x08"), 0},
		{"second SETTINGS", ClientControlStream, ctl.settings(), ErrCodeFrameUnexpected},
		{"GOAWAY before SETTINGS", ClientControlStream, s.frame(FrameGoAway, "\x04"), ErrCodeMissingSettings},
		{"unknown before SETTINGS", ClientControlStream, s.head(0x21, 1<<30), ErrCodeMissingSettings},
		{"DATA on control", ClientControlStream, ctl.head(FrameData, 3), ErrCodeFrameUnexpected},
		{"HEADERS on control", ClientControlStream, ctl.headers("h"), ErrCodeFrameUnexpected},
		{"PUSH_PROMISE on control", ClientControlStream, ctl.frame(FramePushPromise, "\x00"), ErrCodeFrameUnexpected},
		{"MAX_PUSH_ID from a server", ServerControlStream, ctl.frame(FrameMaxPushID, "\x08"), ErrCodeFrameUnexpected},
		{"MAX_PUSH_ID lowered", ClientControlStream, ctl.frame(FrameMaxPushID, "\x08").frame(FrameMaxPushID, "\x07"), ErrCodeID},
		{"CANCEL_PUSH of no push", ClientControlStream, ctl.frame(FrameCancelPush, "\x00"), ErrCodeID},
		{"CANCEL_PUSH malformed", ClientControlStream, ctl.frame(FrameCancelPush, "\x00\x00"), ErrCodeFrame},
		{"GOAWAY empty", ClientControlStream, ctl.frame(FrameGoAway, ""), ErrCodeFrame},
		{"GOAWAY short", ClientControlStream, ctl.frame(FrameGoAway, "\x40"), ErrCodeFrame},
		{"GOAWAY long", ClientControlStream, ctl.frame(FrameGoAway, "\x04\x04"), ErrCodeFrame},
		{"GOAWAY of 1 GiB", ClientControlStream, ctl.head(FrameGoAway, 1<<30), ErrCodeFrame},
		{"SETTINGS malformed", ClientControlStream, s.frame(FrameSettings, "\x06"), ErrCodeFrame},
		{"SETTINGS with HTTP/2's", ClientControlStream, s.frame(FrameSettings, "\x03\x01"), ErrCodeSettings},
		{"SETTINGS too long", ClientControlStream, s.head(FrameSettings, DefaultMaxControlPayload+1), ErrCodeExcessiveLoad},
		{"HEADERS too long", RequestStream, s.head(FrameHeaders, DefaultMaxFieldSectionSize+1), ErrCodeExcessiveLoad},
		{"trailers too long", ResponseStream, msg.head(FrameHeaders, DefaultMaxFieldSectionSize+1), ErrCodeExcessiveLoad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, closed := range []bool{false, true} {
				d := NewDecoder(tc.role, Limits{})
				d.Buffer().Append(tc.in.b)
				if closed {
					d.Buffer().Finish(errClose)
				}
				var r recorder
				err := r.drain(t, d)
				if tc.want != 0 {
					frameErr := wantCode(t, err, tc.want)
					if errors.Is(frameErr, errClose) != closed {
						t.Errorf("cause %v with a close known: %v", frameErr.Cause, closed)
					}
					continue
				}
				if want := map[bool]error{false: ErrNeedMore, true: errClose}[closed]; err != want {
					t.Errorf("%v, want %v", err, want)
				}
			}
		})
	}
}

func TestControlEnd(t *testing.T) {
	for _, role := range []Role{ClientControlStream, ServerControlStream} {
		for _, end := range endings {
			d := NewDecoder(role, Limits{})
			d.Buffer().Append(transcript{}.settings().b)
			mustNext(t, d)
			end.apply(d.Buffer())
			_, err := d.Next()
			if end.name != fin && end.name != reset {
				if err != end.err {
					t.Errorf("%s: %v, want the close itself", end.name, err)
				}
				continue
			}
			frameErr := wantCode(t, err, ErrCodeClosedCriticalStream)
			if errors.Is(err, errReset) != (end.name == reset) || !frameErr.ConnectionError() {
				t.Errorf("%s: %v", end.name, err)
			}
		}
	}
}

func TestHeadersSeen(t *testing.T) {
	d := NewDecoder(ResponseStream, Limits{})
	d.Interim() // before any frame: nothing
	d.Buffer().Append(transcript{}.headers("100").headers("200").data("b").b)
	if d.HeadersSeen() {
		t.Error("seen before any byte was read")
	}
	mustNext(t, d)
	d.Interim()
	if d.HeadersSeen() {
		t.Error("an interim head counts")
	}
	mustNext(t, d)
	if !d.HeadersSeen() {
		t.Error("the final head does not count")
	}
	mustNext(t, d)
	d.Interim() // too late
	if !d.HeadersSeen() {
		t.Error("Interim after DATA took the head back")
	}

	d = NewDecoder(RequestStream, Limits{})
	d.Buffer().Append(transcript{}.frame(0x21, "").b)
	d.Buffer().Finish(io.EOF)
	if _, err := d.Next(); err != io.EOF || d.HeadersSeen() {
		t.Errorf("FIN without HEADERS: %v, seen %v", err, d.HeadersSeen())
	}
}

func TestLimits(t *testing.T) {
	d := NewDecoder(RequestStream, Limits{MaxFieldSectionSize: 5})
	d.Buffer().Append(transcript{}.headers("12345").headers("123456").b)
	mustNext(t, d)
	_, err := d.Next()
	if wantCode(t, err, ErrCodeExcessiveLoad).ConnectionError() {
		t.Error("a field section above our limit ends the connection")
	}
	d = NewDecoder(ClientControlStream, Limits{MaxControlPayload: 3})
	d.Buffer().Append(transcript{}.head(FrameSettings, 4).b)
	_, err = d.Next()
	if !wantCode(t, err, ErrCodeExcessiveLoad).ConnectionError() {
		t.Error("excessive SETTINGS do not end the connection")
	}
}

// TestByReference sees that payloads are copied only where they span chunks.
func TestByReference(t *testing.T) {
	in := transcript{}.headers("head").data("body").b
	d := NewDecoder(ResponseStream, Limits{})
	d.Buffer().Append(in)
	for _, at := range []int{2, 8} {
		if f := mustNext(t, d); &f.Payload[0] != &in[at] {
			t.Errorf("%s payload was copied", f.Type)
		}
	}
}

// TestHeadersInManyChunks has the largest field section byte by byte.
func TestHeadersInManyChunks(t *testing.T) {
	section := strings.Repeat("x", DefaultMaxFieldSectionSize)
	in := transcript{}.headers(section).b
	d := NewDecoder(RequestStream, Limits{})
	for i := range in {
		if _, err := d.Next(); err != ErrNeedMore {
			t.Fatal(err)
		}
		d.Buffer().Append(in[i : i+1])
	}
	if f := mustNext(t, d); string(f.Payload) != section {
		t.Error("the field section came out different")
	}
}

func TestErrors(t *testing.T) {
	err := error(&FrameError{Code: ErrCodeMessage, Type: FrameHeaders, Reason: "why", Cause: errIdle})
	if got := err.Error(); got != "h3frame: H3_MESSAGE_ERROR: why: timeout: no recent network activity" {
		t.Error(got)
	}
	if !errors.Is(err, &FrameError{Code: ErrCodeMessage}) || errors.Is(err, &FrameError{Code: ErrCodeFrame}) ||
		errors.Is(err, &FrameError{Code: ErrCodeMessage, Reason: "other"}) {
		t.Error("Is does not compare the code alone")
	}
	for code, connection := range map[ErrorCode]bool{
		ErrCodeMessage: false, ErrCodeRequestCancelled: false, ErrCodeConnect: false,
		ErrCodeFrameUnexpected: true, ErrCodeFrame: true, ErrCodeQPACKDecompressionFailed: true, ErrCodeSettings: true,
	} {
		if got := (&FrameError{Code: code}).ConnectionError(); got != connection {
			t.Errorf("%s: ConnectionError %v", code, got)
		}
	}
	for got, want := range map[string]string{
		(&TruncatedError{Type: FrameData, Got: 1, Want: 2, Err: errIdle}).Error(): "h3frame: DATA frame cut short at 1 of 2 bytes: timeout: no recent network activity",
		(&TruncatedError{Capsule: true, Got: 1, Want: 2, Err: errIdle}).Error():   "h3frame: DATAGRAM capsule cut short at 1 of 2 bytes: timeout: no recent network activity",
		(&TruncatedError{Header: true, Got: 3, Err: errIdle}).Error():             "h3frame: frame header cut short after 3 bytes: timeout: no recent network activity",
		ErrCodeVersionFallback.String():                                           "H3_VERSION_FALLBACK",
		ErrorCode(0x110 + 1).String():                                             "0x111",
		FrameMaxPushID.String():                                                   "MAX_PUSH_ID",
		FrameType(0x21).String():                                                  "0x21",
		StreamQPACKDecoder.String():                                               "QPACK decoder",
		StreamType(0x21).String():                                                 "0x21",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStreamType(t *testing.T) {
	for _, st := range []StreamType{StreamControl, StreamPush, StreamQPACKEncoder, StreamQPACKDecoder, StreamType(Grease(9000))} {
		b := AppendStreamType(nil, st)
		if got, n := ParseStreamType(b); got != st || n != len(b) {
			t.Errorf("%s: %s, %d", st, got, n)
		}
		if _, n := ParseStreamType(b[:len(b)-1]); n != 0 {
			t.Errorf("%s: %d bytes of an incomplete type", st, n)
		}
	}
}

// TestPassedOver counts the frames that Next does not return, however they are cut.
func TestPassedOver(t *testing.T) {
	grease := append(AppendFrameHeader(nil, FrameType(Grease(3)), 5), "noise"...)
	empty := AppendFrameHeader(nil, FrameData, 0)
	head := AppendHeaders(nil, AppendFieldSection(nil, []Field{
		{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/"},
	}))
	input := bytes.Join([][]byte{
		grease, head, empty, AppendData(nil, []byte("body")), grease, empty,
		AppendFrameHeader(nil, FrameType(Grease(4)), 0), grease[:4], // the last is not whole yet
	}, nil)
	for step := 1; step <= len(input); step++ {
		dec := NewRequestDecoder(Limits{})
		for rest := input; len(rest) > 0; {
			n := min(step, len(rest))
			_, _ = dec.Buffer().Write(rest[:n])
			rest = rest[n:]
			for {
				if _, err := dec.Next(); errors.Is(err, ErrNeedMore) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := dec.PassedOver(); got != 5 {
			t.Fatalf("in steps of %d bytes: %d frames passed over, want 5", step, got)
		}
	}
}
