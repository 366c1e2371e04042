package h3frame

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// section encodes fields given as names and values in turn.
func section(s ...string) string { return string(AppendFieldSection(nil, fieldsOf(s...))) }

// fields appends a HEADERS frame of them.
func (s transcript) fields(f ...string) transcript { return s.headers(section(f...)) }

var getFields = []string{":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/"}

func (s transcript) request(method string, more ...string) transcript {
	return s.fields(append([]string{":method", method, ":scheme", "https", ":authority", "h", ":path", "/"}, more...)...)
}

func (s transcript) response(status int, more ...string) transcript {
	return s.fields(append([]string{":status", fmt.Sprint(status)}, more...)...)
}

// A messageLog writes down what a MessageDecoder returns. The pieces of a body run
// together.
type messageLog struct {
	strings.Builder
	inBody bool
}

func (l *messageLog) drain(t testing.TB, m *MessageDecoder) error {
	t.Helper()
	for {
		ev, err := m.Next()
		if err != nil {
			return err
		}
		if ev.Kind == EventBody {
			if len(ev.Body) == 0 {
				t.Fatal("empty piece")
			}
			if !l.inBody {
				l.WriteString("\nbody ")
			}
			l.Write(ev.Body)
			l.inBody = true
			continue
		}
		l.inBody = false
		switch {
		case ev.Kind == EventPush && ev.Request != nil:
			fmt.Fprintf(l, "\npush %d %s %v", ev.PushID, ev.Request.Path, ev.Request.Header)
		case ev.Kind == EventHead && ev.Request != nil:
			fmt.Fprintf(l, "\n%s %s%s %v", ev.Request.Method, ev.Request.Authority, ev.Request.Path, ev.Request.Header)
		case ev.Kind == EventHead && ev.Response != nil:
			fmt.Fprintf(l, "\n%d %v", ev.Response.Status, ev.Response.Header)
		case ev.Kind == EventInterim && ev.Response != nil:
			fmt.Fprintf(l, "\ninterim %d %v", ev.Response.Status, ev.Response.Header)
		case ev.Kind == EventTrailer:
			fmt.Fprintf(l, "\ntrailer %v", ev.Trailer)
		default:
			t.Fatalf("event %+v", ev)
		}
	}
}

func TestMessage(t *testing.T) {
	var s transcript
	for _, tc := range []struct {
		name string
		dec  func() *MessageDecoder
		in   transcript
		end  error
		want string
		err  func(t *testing.T, err error)
	}{
		{"request", newRequest, s.request("POST", "content-length", "4", "x", "y").data("bo").data("dy").fields("x-sum", "1"), io.EOF,
			"\nPOST h/ map[Content-Length:[4] X:[y]]\nbody body\ntrailer map[X-Sum:[1]]", same(io.EOF)},
		{"request without body", newRequest, s.request("GET"), io.EOF, "\nGET h/ map[]", same(io.EOF)},
		{"response", newResponse, s.response(103, "link", "</a>").response(100).response(200).data("body"), io.EOF,
			"\ninterim 103 map[Link:[</a>]]\ninterim 100 map[]\n200 map[]\nbody body", same(io.EOF)},
		{"response with a push", newResponse, s.raw(string(AppendPushPromise(nil, 1, []byte(section(getFields...))))).response(200).
			raw(string(AppendPushPromise(nil, 0, []byte(section(getFields...))))).data("b"), io.EOF,
			"\npush 1 / map[]\n200 map[]\npush 0 / map[]\nbody b", same(io.EOF)},
		{"pushed response", func() *MessageDecoder { return NewResponseDecoder(PushStream, "GET", Limits{}) }, s.response(200).data("b"), io.EOF,
			"\n200 map[]\nbody b", same(io.EOF)},

		{"no head in a request", newRequest, s.frame(0x21, "g"), io.EOF, "", code(ErrCodeRequestIncomplete, nil)},
		{"no head in a response", newResponse, s.response(103), io.EOF, "\ninterim 103 map[]", code(ErrCodeMessage, nil)},
		{"nothing but a close", newResponse, s, errClose, "", same(errClose)},
		{"interim and a close", newResponse, s.response(103), errClose, "\ninterim 103 map[]", same(errClose)},

		{"too short", newRequest, s.request("POST", "content-length", "5").data("body"), io.EOF,
			"\nPOST h/ map[Content-Length:[5]]\nbody body", code(ErrCodeMessage, io.ErrUnexpectedEOF)},
		{"too long", newRequest, s.request("POST", "content-length", "3").data("bo").data("dy"), io.EOF,
			"\nPOST h/ map[Content-Length:[3]]\nbody bod", code(ErrCodeMessage, nil)},
		{"too long, then a close", newResponse, s.response(200, "content-length", "0").data("b"), errClose,
			"\n200 map[Content-Length:[0]]", code(ErrCodeMessage, errClose)},
		{"case02 length met, close 0x100", newResponse, s.response(200, "content-length", "4").data("body"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", same(io.EOF)},
		{"case02 length of 0 met, close", newResponse, s.response(204), errClose, "\n204 map[]", same(io.EOF)},
		{"case02 no length, close 0x100", newResponse, s.response(200).data("body"), errClose, "\n200 map[]\nbody body", same(errClose)},
		{"case02 length not met, close 0x100", newResponse, s.response(200, "content-length", "5").data("body"), errClose,
			"\n200 map[Content-Length:[5]]\nbody body", same(errClose)},
		{"case03 length met, close within the trailers", newResponse, s.response(200, "content-length", "4").data("body").head(FrameHeaders, 9).raw("tra"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", truncated(TruncatedError{Type: FrameHeaders, Got: 3, Want: 9, Err: errClose})},
		{"case03 length met, close within a frame header", newResponse, s.response(200, "content-length", "4").data("body").raw("\x01"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", truncated(TruncatedError{Header: true, Got: 1, Err: errClose})},
		{"case04 length met, close within DATA", newResponse, s.response(200, "content-length", "4").head(FrameData, 9).raw("body"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", truncated(TruncatedError{Type: FrameData, Got: 4, Want: 9, Err: errClose})},
		{"case08 length met, close within an unknown frame", newResponse, s.response(200, "content-length", "4").data("body").head(0x21, 9).raw("gre"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", same(io.EOF)},
		{"case04 close within DATA", newResponse, s.response(200, "content-length", "9").head(FrameData, 9).raw("body"), errClose,
			"\n200 map[Content-Length:[9]]\nbody body", truncated(TruncatedError{Type: FrameData, Got: 4, Want: 9, Err: errClose})},
		{"case05 FIN within DATA, length met", newResponse, s.response(200, "content-length", "4").data("body").head(FrameData, 9), io.EOF,
			"\n200 map[Content-Length:[4]]\nbody body", code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case06 reset, length met", newResponse, s.response(200, "content-length", "4").data("body"), errReset, "", same(errReset)},
		{"case11 forbidden frame, length met, close", newResponse, s.response(200, "content-length", "4").data("body").settings(), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", code(ErrCodeFrameUnexpected, errClose)},
		{"case11 malformed trailers, length met, close", newResponse, s.response(200, "content-length", "4").data("body").fields(":status", "200"), errClose,
			"\n200 map[Content-Length:[4]]\nbody body", code(ErrCodeMessage, errClose)},
		{"case13 idle timeout, length met", newRequest, s.request("PUT", "content-length", "4").data("body"), errIdle,
			"\nPUT h/ map[Content-Length:[4]]\nbody body", same(io.EOF)},

		{"HEAD", func() *MessageDecoder { return NewResponseDecoder(ResponseStream, "HEAD", Limits{}) }, s.response(200, "content-length", "9"), io.EOF,
			"\n200 map[Content-Length:[9]]", same(io.EOF)},
		{"HEAD with a body", func() *MessageDecoder { return NewResponseDecoder(ResponseStream, "HEAD", Limits{}) }, s.response(200).data("b"), io.EOF,
			"\n200 map[]", code(ErrCodeMessage, nil)},
		{"304 with a length", newResponse, s.response(304, "content-length", "9"), io.EOF, "\n304 map[Content-Length:[9]]", same(io.EOF)},
		{"204 with a body", newResponse, s.response(204).data("b"), io.EOF, "\n204 map[]", code(ErrCodeMessage, nil)},

		{"CONNECT", newRequest, s.fields(":method", "CONNECT", ":authority", "h:1").data("in").frame(0x21, "g").data("out"), io.EOF,
			"\nCONNECT h:1 map[]\nbody inout", same(io.EOF)},
		{"CONNECT with HEADERS in the tunnel", newRequest, s.fields(":method", "CONNECT", ":authority", "h:1").data("in").fields("x", "y"), io.EOF,
			"\nCONNECT h:1 map[]\nbody in", code(ErrCodeFrameUnexpected, nil)},
		{"extended CONNECT", newRequest, s.fields(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "h", ":path", "/c").fields("x", "y"), io.EOF,
			"\nCONNECT h/c map[]", code(ErrCodeFrameUnexpected, nil)},
		{"CONNECT accepted", newConnect, s.response(200, "content-length", "1").data("tunnel").headers("x"), io.EOF,
			"\n200 map[Content-Length:[1]]\nbody tunnel", code(ErrCodeFrameUnexpected, nil)},
		{"CONNECT refused", newConnect, s.response(403, "content-length", "2").data("no").fields("x", "y"), io.EOF,
			"\n403 map[Content-Length:[2]]\nbody no\ntrailer map[X:[y]]", same(io.EOF)},

		{"malformed head", newRequest, s.fields("x", "y"), io.EOF, "", code(ErrCodeMessage, nil)},
		{"malformed push", newResponse, s.raw(string(AppendPushPromise(nil, 1, []byte(section("x", "y"))))), errClose, "", code(ErrCodeMessage, errClose)},
		{"undecodable head", newRequest, s.headers("\x02\x00\xd1"), errClose, "", code(ErrCodeQPACKDecompressionFailed, errClose)},
		{"undecodable trailers", newRequest, s.request("GET").headers(""), io.EOF, "\nGET h/ map[]", code(ErrCodeQPACKDecompressionFailed, nil)},
		{"head above the limit", func() *MessageDecoder { return NewRequestDecoder(Limits{MaxFieldSectionSize: 200}) },
			s.request("GET", "x", strings.Repeat("y", 40), "z", ""), io.EOF, "", code(ErrCodeExcessiveLoad, nil)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := tc.dec()
			m.AllowPushes(2)
			m.Buffer().Append(tc.in.b)
			if tc.end == errReset {
				m.Buffer().Reset(tc.end)
			} else {
				m.Buffer().Finish(tc.end)
			}
			var l messageLog
			err := l.drain(t, m)
			if got := l.String(); got != tc.want {
				t.Errorf("delivered %s\nwant %s", got, tc.want)
			}
			tc.err(t, err)
			for range 2 {
				m.Buffer().Append(s.data("late").b)
				if _, again := m.Next(); again != err {
					t.Errorf("%v became %v", err, again)
				}
				m.Buffer().Release()
			}
		})
	}
}

func newRequest() *MessageDecoder { return NewRequestDecoder(Limits{}) }
func newResponse() *MessageDecoder {
	return NewResponseDecoder(ResponseStream, http.MethodGet, Limits{})
}
func newConnect() *MessageDecoder {
	return NewResponseDecoder(ResponseStream, http.MethodConnect, Limits{})
}

// TestMessageSplit cuts two whole messages after every byte, and feeds and ends
// them in all ways. What is delivered is a prefix of the whole, and how it ends
// follows from what was delivered.
func TestMessageSplit(t *testing.T) {
	const length = len("hello world")
	for name, tc := range map[string]struct {
		dec func() *MessageDecoder
		in  transcript
	}{
		"request": {newRequest, transcript{}.frame(0x21, "g").request("PUT", "content-length", fmt.Sprint(length)).
			data("hello ").data("").frame(FrameType(Grease(9)), "").data("world").fields("x-sum", "1")},
		"response": {newResponse, transcript{}.response(103, "link", "</style.css>").response(200, "content-length", fmt.Sprint(length), "server", "x").
			data("hello world").fields("x-sum", "1").frame(0x21, "g")},
	} {
		t.Run(name, func(t *testing.T) {
			full := tc.in.b
			var whole messageLog
			m := tc.dec()
			m.Buffer().Append(full)
			m.Buffer().Finish(io.EOF)
			if err := whole.drain(t, m); err != io.EOF {
				t.Fatal(err)
			}
			for cut := range len(full) + 1 {
				for _, end := range endings {
					outcomes := make(map[string]string)
					eachSplit(full[:cut], func(how string, feed func(b *Buffer, next func())) {
						t.Helper()
						m := tc.dec()
						var l messageLog
						feed(m.Buffer(), func() {
							if err := l.drain(t, m); err != ErrNeedMore {
								t.Fatalf("cut %d, %s: %v before the end", cut, how, err)
							}
						})
						end.apply(m.Buffer())
						err := l.drain(t, m)
						if !strings.HasPrefix(whole.String(), l.String()) {
							t.Fatalf("cut %d, %s: delivered %s", cut, how, l.String())
						}
						wantMessageEnd(t, m, err, end, cut == len(full))
						if end.name != reset {
							outcomes[l.String()+"\n"+describe(err)] = how
						}
					})
					if len(outcomes) > 1 {
						t.Fatalf("cut %d, %s: the way of feeding matters: %v", cut, end.name, outcomes)
					}
				}
			}
		})
	}
}

// wantMessageEnd derives from what was delivered how a message may have ended.
func wantMessageEnd(t *testing.T, m *MessageDecoder, err error, end ending, whole bool) {
	t.Helper()
	var frameErr *FrameError
	var cut *TruncatedError
	met := m.HeadSeen() && m.Received() == m.ContentLength()
	switch {
	case end.name == reset:
		if err != end.err {
			t.Fatalf("%v after a reset", err)
		}
	case end.name != fin && met:
		if within := errors.As(err, &cut) && (cut.Header || cut.Type == FrameData || cut.Type == FrameHeaders); err != io.EOF && !within {
			t.Fatalf("%v, though the length is met", err)
		}
	case end.name != fin:
		if !errors.Is(err, end.err) || errors.As(err, &frameErr) {
			t.Fatalf("%v after %s", err, end.name)
		}
	case err == io.EOF:
		if !met {
			t.Fatalf("EOF with %d of %d bytes", m.Received(), m.ContentLength())
		}
	default:
		codes := []ErrorCode{ErrCodeFrame, ErrCodeMessage, ErrCodeRequestIncomplete}
		if !errors.As(err, &frameErr) || !slices.Contains(codes, frameErr.Code) || whole || errors.Is(err, io.EOF) {
			t.Fatalf("%v after a FIN", err)
		}
	}
}

// FuzzMessage sees that a message never ends well with less content than it
// announced, and that chunks make no difference.
func FuzzMessage(f *testing.F) {
	for end := range endings {
		f.Add(true, uint8(end), transcript{}.request("POST", "content-length", "4").data("body").fields("a", "b").b, []byte{3, 130, 7})
		f.Add(false, uint8(end), transcript{}.response(103).response(200, "content-length", "4").data("bo").data("dy").b, []byte{0x81})
	}
	f.Add(false, uint8(0), transcript{}.response(200).data("body").b, []byte{})
	f.Fuzz(func(t *testing.T, request bool, end uint8, in, cuts []byte) {
		e := endings[int(end)%len(endings)]
		run := func(cuts []byte) (m *MessageDecoder, log, ended string) {
			if m = newResponse(); request {
				m = newRequest()
			}
			m.AllowPushes(4)
			var l messageLog
			feedCuts(m.Buffer(), in, cuts, func() { _ = l.drain(t, m) })
			e.apply(m.Buffer())
			err := l.drain(t, m)
			if _, again := m.Next(); again != err {
				t.Fatalf("%v became %v", err, again)
			}
			if err == io.EOF && m.ContentLength() >= 0 && m.Received() != m.ContentLength() {
				t.Fatalf("EOF with %d of %d bytes", m.Received(), m.ContentLength())
			}
			if err == io.EOF && (!m.HeadSeen() || e.name == reset) {
				t.Fatal("EOF without a head, or after a reset")
			}
			return m, l.String(), describe(err)
		}
		_, log, ended := run(nil)
		if _, got, gotEnd := run(cuts); e.name != reset && (got != log || gotEnd != ended) {
			t.Fatalf("in chunks %q, %q\nwhole %q, %q", got, gotEnd, log, ended)
		}
	})
}

// TestInitRequest has one decoder read two requests after each other.
func TestInitRequest(t *testing.T) {
	var m MessageDecoder
	for _, length := range []string{"3", "2"} {
		m.InitRequest(Limits{})
		fields := fieldsOf(":method", "PUT", ":scheme", "https", ":authority", "h", ":path", "/"+length, "content-length", length)
		_, _ = m.Buffer().Write(AppendHeaders(nil, AppendFieldSection(nil, fields)))
		ev, err := m.Next()
		if err != nil || ev.Kind != EventHead || ev.Request.Path != "/"+length || ev.Request.Header.Get("Content-Length") != length {
			t.Fatalf("%+v, %v", ev, err)
		}
		_, _ = m.Buffer().Write([]byte{byte(FrameData), 2, 'a', 'b'})
		if ev, err = m.Next(); err != nil || string(ev.Body) != "ab" {
			t.Fatalf("%+v, %v", ev, err)
		}
		m.Buffer().Finish(io.EOF)
		if _, err = m.Next(); (err == io.EOF) != (length == "2") {
			t.Fatalf("length %s ends with %v", length, err)
		}
	}
}

// TestFieldSlicesAreNotShared decodes sections of different sizes in turn, and holds
// the first against what the last has left of it.
func TestFieldSlicesAreNotShared(t *testing.T) {
	head := func(more ...string) *RequestHead {
		m := newRequest()
		fields := with(fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/"), more...)
		_, _ = m.Buffer().Write(AppendHeaders(nil, AppendFieldSection(nil, fields)))
		ev, err := m.Next()
		if err != nil {
			t.Fatal(err)
		}
		return ev.Request
	}
	first := head("x-a", "1", "x-b", "2", "x-b", "3")
	for i := range 100 {
		more := make([]string, 2*i)
		for j := range more {
			more[j] = "x-other"
		}
		if got := len(head(more...).Header["X-Other"]); got != i {
			t.Fatalf("%d of %d fields", got, i)
		}
	}
	want := http.Header{"X-A": {"1"}, "X-B": {"2", "3"}}
	if diff := cmp.Diff(want, first.Header); diff != "" {
		t.Error(diff)
	}
}
