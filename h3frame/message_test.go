package h3frame

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var exampleRequest = RequestHead{
	Method: "GET", Scheme: "https", Authority: "example.com", Path: "/a?b=c",
	Header: http.Header{"User-Agent": {"tailfin"}, "Accept": {"*/*"}},
}

// fieldsOf makes fields of names and values in turn.
func fieldsOf(s ...string) []Field {
	var fields []Field
	for i := 0; i+1 < len(s); i += 2 {
		fields = append(fields, Field{s[i], s[i+1]})
	}
	return fields
}

func with(base []Field, s ...string) []Field {
	return append(base[:len(base):len(base)], fieldsOf(s...)...)
}

func TestParseRequestFields(t *testing.T) {
	get := fieldsOf(":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/")
	noAuthority := fieldsOf(":method", "GET", ":scheme", "https", ":path", "/")
	websocket := fieldsOf(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/chat", ":authority", "example.com")
	head := func(mod func(h *RequestHead)) *RequestHead {
		h := &RequestHead{Method: "GET", Scheme: "https", Authority: "example.com", Path: "/", Header: http.Header{}}
		mod(h)
		return h
	}
	header := func(h http.Header) *RequestHead { return head(func(r *RequestHead) { r.Header = h }) }
	for _, tc := range []struct {
		name   string
		fields []Field
		want   *RequestHead // nil: malformed
	}{
		{"GET", get, header(http.Header{})},
		{"fields", with(get, "x-a", "1", "accept", "*/*", "x-a", "2", "x-empty", ""), header(http.Header{"X-A": {"1", "2"}, "Accept": {"*/*"}, "X-Empty": {""}})},
		{"OPTIONS *", fieldsOf(":method", "OPTIONS", ":scheme", "https", ":authority", "h", ":path", "*"),
			head(func(h *RequestHead) { h.Method, h.Authority, h.Path = "OPTIONS", "h", "*" })},
		{"scheme in upper case", fieldsOf(":method", "GET", ":scheme", "HTTPS", ":authority", "example.com", ":path", "/"), header(http.Header{})},
		{"Host alone", with(noAuthority, "host", "example.com"), header(http.Header{})},
		{"Host agrees", with(get, "host", "example.com"), header(http.Header{})},
		{"other scheme without authority", fieldsOf(":method", "GET", ":scheme", "urn", ":path", "isbn:1"),
			head(func(h *RequestHead) { h.Scheme, h.Authority, h.Path = "urn", "", "isbn:1" })},
		{"cookie crumbs", with(get, "cookie", "a=b", "x", "y", "cookie", "c=d"), header(http.Header{"Cookie": {"a=b; c=d"}, "X": {"y"}})},
		{"Content-Length", with(get, "content-length", "42"), header(http.Header{"Content-Length": {"42"}})},
		{"equal Content-Lengths", with(get, "content-length", "42", "content-length", "42, 42"), header(http.Header{"Content-Length": {"42"}})},
		{"Content-Length of 0", with(get, "content-length", "0"), header(http.Header{"Content-Length": {"0"}})},
		{"Content-Length with zeros before it", with(get, "content-length", "0042"), header(http.Header{"Content-Length": {"42"}})},
		{"Content-Length of 2^63-1", with(get, "content-length", "9223372036854775807"), header(http.Header{"Content-Length": {"9223372036854775807"}})},
		{"nine fields", with(get, "a", "1", "b", "2", "c", "3", "d", "4", "e", "5", "f", "6", "g", "7", "h", "8", "i", "9"),
			header(http.Header{"A": {"1"}, "B": {"2"}, "C": {"3"}, "D": {"4"}, "E": {"5"}, "F": {"6"}, "G": {"7"}, "H": {"8"}, "I": {"9"}})},
		{"TE Trailers", with(get, "te", "Trailers"), header(http.Header{"Te": {"Trailers"}})},
		{"TE trailers", with(get, "te", "trailers"), header(http.Header{"Te": {"trailers"}})},
		{"obs-text", with(get, "x", "caf\xe9"), header(http.Header{"X": {"caf\xe9"}})},
		{"CONNECT", fieldsOf(":method", "CONNECT", ":authority", "example.com:443"),
			head(func(h *RequestHead) {
				h.Method, h.Scheme, h.Authority, h.Path = "CONNECT", "", "example.com:443", ""
			})},
		{"extended CONNECT", websocket, head(func(h *RequestHead) { h.Method, h.Protocol, h.Path = "CONNECT", "websocket", "/chat" })},

		{"nothing", nil, nil},
		{"no :method", get[1:], nil},
		{"empty :method", fieldsOf(":method", "", ":scheme", "https", ":authority", "h", ":path", "/"), nil},
		{":method no token", fieldsOf(":method", "G ET", ":scheme", "https", ":authority", "h", ":path", "/"), nil},
		{"no :scheme", fieldsOf(":method", "GET", ":authority", "h", ":path", "/"), nil},
		{":scheme with a digit first", fieldsOf(":method", "GET", ":scheme", "3http", ":authority", "h", ":path", "/"), nil},
		{"no :path", get[:3], nil},
		{"empty :path", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", ""), nil},
		{"* without OPTIONS", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", "*"), nil},
		{":path without /", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", "a"), nil},
		{":path with a space", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/a b"), nil},
		{"no authority", noAuthority, nil},
		{"empty :authority", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "", ":path", "/"), nil},
		{"empty :authority with Host", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "", ":path", "/", "host", "h"), nil},
		{"userinfo", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "u@h", ":path", "/"), nil},
		{":authority with a space", fieldsOf(":method", "GET", ":scheme", "https", ":authority", "a b", ":path", "/"), nil},
		{"Host differs", with(get, "host", "example.org"), nil},
		{"two Hosts", with(get, "host", "example.com", "host", "example.com"), nil},
		{"duplicate pseudo", with(get[:1], ":method", "GET"), nil},
		{"pseudo after regular", with(fieldsOf("x", "y"), ":method", "GET"), nil},
		{"pseudo last", with(noAuthority, "x", "y", ":authority", "example.com"), nil},
		{"unknown pseudo", with(get, ":version", "3"), nil},
		{":status in a request", with(get, ":status", "200"), nil},
		{":protocol without CONNECT", with(get, ":protocol", "websocket"), nil},
		{"CONNECT with :path", fieldsOf(":method", "CONNECT", ":authority", "h:1", ":path", "/"), nil},
		{"CONNECT with :scheme", fieldsOf(":method", "CONNECT", ":authority", "h:1", ":scheme", "https"), nil},
		{"CONNECT without :authority", fieldsOf(":method", "CONNECT", "host", "h:1"), nil},
		{"extended CONNECT, empty :protocol", fieldsOf(":method", "CONNECT", ":protocol", "", ":scheme", "https", ":path", "/", ":authority", "h"), nil},
		{"extended CONNECT without :path", fieldsOf(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "h"), nil},
		{"extended CONNECT without :authority", websocket[:4], nil},
		{"name in upper case", with(get, "X-A", "1"), nil},
		{"empty name", with(get, "", "1"), nil},
		{"name with a space", with(get, "x a", "1"), nil},
		{"name no ASCII", with(get, "caf\xc3\xa9", "1"), nil},
		{"value with LF", with(get, "x", "a\nb"), nil},
		{"value with CR", with(get, "x", "a\rb"), nil},
		{"value with NUL", with(get, "x", "a\x00b"), nil},
		{"value with a space first", with(get, "x", " a"), nil},
		{"value with a tab last", with(get, "x", "a\t"), nil},
		{"pseudo value with LF", with(get[:3], ":path", "/\n"), nil},
		{"connection", with(get, "connection", "close"), nil},
		{"keep-alive", with(get, "keep-alive", "1"), nil},
		{"proxy-connection", with(get, "proxy-connection", "close"), nil},
		{"transfer-encoding", with(get, "transfer-encoding", "chunked"), nil},
		{"upgrade", with(get, "upgrade", "h2c"), nil},
		{"TE gzip", with(get, "te", "gzip"), nil},
		{"different Content-Lengths", with(get, "content-length", "42", "content-length", "43"), nil},
		{"list of different Content-Lengths", with(get, "content-length", "42,43"), nil},
		{"Content-Length with a sign", with(get, "content-length", "+42"), nil},
		{"negative Content-Length", with(get, "content-length", "-1"), nil},
		{"empty Content-Length", with(get, "content-length", ""), nil},
		{"Content-Length in hex", with(get, "content-length", "0x10"), nil},
		{"Content-Length of 2^63", with(get, "content-length", "9223372036854775808"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseRequestFields(tc.fields)
			if tc.want == nil {
				wantMalformed(t, err)
				tc.want = &RequestHead{}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func wantMalformed(t *testing.T, err error) {
	t.Helper()
	if wantCode(t, err, ErrCodeMessage).ConnectionError() {
		t.Error("a malformed message ends the connection")
	}
}

func TestParseResponseFields(t *testing.T) {
	got, err := ParseResponseFields(fieldsOf(":status", "404", "set-cookie", "a", "set-cookie", "b", "content-length", "0"))
	want := ResponseHead{404, http.Header{"Set-Cookie": {"a", "b"}, "Content-Length": {"0"}}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, s := range []string{"100", "103", "200", "599", "999"} {
		if _, err := ParseResponseFields(fieldsOf(":status", s)); err != nil {
			t.Error(err)
		}
	}
	for name, fields := range map[string][]Field{
		"no :status":      fieldsOf("x", "y"),
		"nothing":         nil,
		"two":             fieldsOf(":status", "200", ":status", "200"),
		"empty":           fieldsOf(":status", ""),
		"two digits":      fieldsOf(":status", "20"),
		"four digits":     fieldsOf(":status", "2000"),
		"sign":            fieldsOf(":status", "+20"),
		"below 100":       fieldsOf(":status", "099"),
		"101":             fieldsOf(":status", "101"),
		"text":            fieldsOf(":status", "2ok"),
		":method":         fieldsOf(":status", "200", ":method", "GET"),
		"after a field":   fieldsOf("x", "y", ":status", "200"),
		"connection":      fieldsOf(":status", "200", "connection", "close"),
		"upper case":      fieldsOf(":status", "200", "Server", "x"),
		"Content-Lengths": fieldsOf(":status", "200", "content-length", "1", "content-length", "2"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseResponseFields(fields)
			wantMalformed(t, err)
		})
	}
}

func TestParseTrailerFields(t *testing.T) {
	got, err := ParseTrailerFields(fieldsOf("x-sum", "1", "content-length", "no number", "host", "h", "x-sum", "2"))
	if diff := cmp.Diff(http.Header{"X-Sum": {"1", "2"}}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for name, fields := range map[string][]Field{
		"pseudo":     fieldsOf(":status", "200"),
		"late":       fieldsOf("x", "y", ":path", "/"),
		"connection": fieldsOf("connection", "close"),
		"upper case": fieldsOf("X", "y"),
		"LF":         fieldsOf("x", "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTrailerFields(fields)
			wantMalformed(t, err)
		})
	}
}

func TestRequestFields(t *testing.T) {
	for _, tc := range []struct {
		name string
		head RequestHead
		want []Field
	}{
		{"GET", exampleRequest, fieldsOf(":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/a?b=c", "accept", "*/*", "user-agent", "tailfin")},
		{"CONNECT", RequestHead{Method: "CONNECT", Authority: "h:443", Scheme: "https", Path: "/"}, fieldsOf(":method", "CONNECT", ":authority", "h:443")},
		{"extended CONNECT", RequestHead{Method: "CONNECT", Scheme: "https", Authority: "h", Path: "/", Protocol: "websocket"},
			fieldsOf(":method", "CONNECT", ":scheme", "https", ":authority", "h", ":path", "/", ":protocol", "websocket")},
		{"left out", RequestHead{Method: "GET", Scheme: "https", Authority: "h", Path: "/", Header: http.Header{
			"Connection": {"close, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Proxy-Connection": {"1"}, "Transfer-Encoding": {"chunked"},
			"Upgrade": {"h2c"}, "Te": {"gzip", "trailers"}, "Host": {"other"}, "Trailer:X": {"1"}, "": {"1"}, ":path": {"/other"},
			"X-Bad": {"a\nb", " good\t"}, "X-Nil": nil,
		}}, fieldsOf(":method", "GET", ":scheme", "https", ":authority", "h", ":path", "/", "te", "trailers", "x-bad", "good")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := RequestFields(tc.head)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := ParseRequestFields(got); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLowerNames holds the names that are kept in lower case against the others' way.
func TestLowerNames(t *testing.T) {
	for key, name := range lowerNames {
		if name != strings.ToLower(key) || key != http.CanonicalHeaderKey(name) {
			t.Errorf("%q: %q", key, name)
		}
	}
	for status := 100; status < 1000; status++ {
		if got := statusText(status); got != strconv.Itoa(status) {
			t.Errorf("%d: %q", status, got)
		}
	}
}

func TestResponseAndTrailerFields(t *testing.T) {
	header := http.Header{"Content-Type": {"text/plain"}, "CONNECTION": {"close"}, "Set-Cookie": {"b", "a"}}
	if diff := cmp.Diff(fieldsOf(":status", "200", "content-type", "text/plain", "set-cookie", "b", "set-cookie", "a"),
		ResponseFields(ResponseHead{200, header})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(fieldsOf("x-sum", "1"), TrailerFields(http.Header{"X-Sum": {"1"}, "Upgrade": {"x"}})); diff != "" {
		t.Error(diff)
	}
}
