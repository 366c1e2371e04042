package tailfin

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestHopFieldsAreStripped has the fields that a proxy must not pass on, towards a
// server that is not ours.
func TestHopFieldsAreStripped(t *testing.T) {
	addr := stockServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := slices.Sorted(maps.Keys(r.Header))
		_, _ = fmt.Fprintf(w, "%s te=%s host=%s", strings.Join(names, ","), r.Header.Get("Te"), r.Host)
	}))
	req, _ := http.NewRequest(http.MethodGet, "https://"+addr+"/", nil)
	req.Host = "other.example"
	req.Header = http.Header{
		"Connection":        {"close, X-Hop"},
		"Keep-Alive":        {"timeout=5"},
		"Proxy-Connection":  {"keep-alive"},
		"Transfer-Encoding": {"chunked"},
		"Upgrade":           {"websocket"},
		"X-Hop":             {"for the next hop only"},
		"Te":                {"trailers"},
		"Host":              {"ignored.example"},
		"Content-Length":    {"12"},
		"X-End":             {"kept"},
		"User-Agent":        {""},
		"Accept-Encoding":   {"identity"},
	}
	resp, err := newTransport(t, &Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	want(t, string(b), "Accept-Encoding,Te,X-End te=trailers host=other.example")
}

// TestResponseHopFields has a response with a field of HTTP/1, which makes it
// malformed (RFC 9114 §4.2).
func TestResponseHopFields(t *testing.T) {
	for _, name := range []string{"connection", "transfer-encoding", "keep-alive", "proxy-connection", "upgrade"} {
		peer := newRawPeer(t, rawPeerOptions{answer: func(_ *rawPeerConn, s *quic.Stream) {
			requestBytes(s)
			finish(s, section(":status", "200", name, "close"))
		}})
		_, err := fetchFrom(t.Context(), newTransport(t, &Transport{}), peer.addr, "/")
		wantAs(t, err, func(e *FrameError) bool { return e.Code == h3frame.ErrCodeMessage })
	}
}

// TestUserinfo has a URL with a user in it.
func TestUserinfo(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, "%s|%s|%s|%s", user, password, r.Header.Get("Authorization")[:6], r.Host)
	})})
	tr := newTransport(t, &Transport{})
	for _, tc := range []struct{ userinfo, header, want string }{
		{"ann:se%3Acret@", "", "ann|se:cret|Basic |" + addr},
		{"ann@", "", "ann||Basic |" + addr},
		{"ann:secret@", "Bearer token", "||Bearer|" + addr},
	} {
		req, err := http.NewRequest(http.MethodGet, "https://"+tc.userinfo+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.header != "" {
			req.Header.Set("Authorization", tc.header)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want(t, string(b), tc.want)
		want(t, req.Header.Get("Authorization"), tc.header)
	}
}

// TestRequestHead has the parts of a header section that a client makes itself.
func TestRequestHead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*http.Request)
		want   string
	}{
		{"GET", nil, "GET https example.com /a?b=c"},
		{"no method", func(r *http.Request) { r.Method = "" }, "GET https example.com /a?b=c"},
		{"international name", func(r *http.Request) { r.Host, r.URL.Host = "", "bücher.example" }, "GET https xn--bcher-kva.example /a?b=c"},
		{"no path", func(r *http.Request) { r.URL.Path = "" }, "GET https example.com /?b=c"},
		{"OPTIONS *", func(r *http.Request) { r.Method, r.URL.Path, r.URL.RawQuery = "OPTIONS", "*", "" }, "OPTIONS https example.com *"},
		{"opaque", func(r *http.Request) { r.URL.Opaque = "https://example.com/%2F" }, "GET https example.com /%2F?b=c"},
		{"POST without a body", func(r *http.Request) { r.Method = "POST" }, "POST https example.com /a?b=c content-length=0"},
		{"CONNECT", func(r *http.Request) { r.Method, r.Host = "CONNECT", "target.example:22" }, "CONNECT  target.example:22 "},
		{"extended CONNECT", func(r *http.Request) { r.Method, r.Proto = "CONNECT", "websocket" }, "CONNECT https example.com /a?b=c :websocket"},
		{"extended CONNECT by a field", func(r *http.Request) {
			r.Method = "CONNECT"
			r.Header[":protocol"] = []string{"connect-udp"}
		}, "CONNECT https example.com /a?b=c :connect-udp"},
		{"trailers", func(r *http.Request) { r.Trailer = http.Header{"X-Sum": nil} }, "GET https example.com /a?b=c trailer=X-Sum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, _ := http.NewRequest(http.MethodGet, "https://example.com/a?b=c", nil)
			if tc.change != nil {
				tc.change(req)
			}
			tr := &Transport{DisableCompression: true}
			try, err := tr.newTry(req)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%s %s %s %s", try.head.Method, try.head.Scheme, try.head.Authority, try.head.Path)
			if req.Method == http.MethodConnect && try.head.Protocol == "" {
				got = strings.Replace(got, "https", "", 1) // h3frame leaves it out
			}
			if try.head.Protocol != "" {
				got += " :" + try.head.Protocol
			}
			for _, f := range try.fields {
				if f.Name == "content-length" || f.Name == "trailer" {
					got += " " + f.Name + "=" + f.Value
				}
			}
			want(t, got, tc.want)
		})
	}
}

// TestRequestsThatCannotBeSent fail before anything is dialed.
func TestRequestsThatCannotBeSent(t *testing.T) {
	tr := newTransport(t, &Transport{})
	for name, change := range map[string]func(*http.Request){
		"method":         func(r *http.Request) { r.Method = "A B" },
		"host":           func(r *http.Request) { r.Host = "a b" },
		"header name":    func(r *http.Request) { r.Header["A B"] = []string{"x"} },
		"header value":   func(r *http.Request) { r.Header["A"] = []string{"x\n"} },
		"trailer name":   func(r *http.Request) { r.Trailer = http.Header{"Content-Length": {"1"}} },
		"trailer value":  func(r *http.Request) { r.Trailer = http.Header{"A": {"\x00"}} },
		"path":           func(r *http.Request) { r.URL.Opaque = "elsewhere" },
		"protocol":       func(r *http.Request) { r.Method, r.Proto = "CONNECT", "web socket" },
		"no host":        func(r *http.Request) { r.URL.Host = "" },
		"no URL":         func(r *http.Request) { r.URL = nil },
		"host name":      func(r *http.Request) { r.URL.Host = "a_\u00ad.example" },
		"port":           func(r *http.Request) { r.URL.Host = "example.com:99999" },
		"not for HTTP/3": func(r *http.Request) { r.URL.Scheme = "http" },
	} {
		req, _ := http.NewRequest(http.MethodGet, "https://example.com/", nil)
		change(req)
		_, err := tr.RoundTrip(req)
		if err == nil {
			t.Errorf("%s: sent", name)
			continue
		}
		wantAs(t, err, func(e *RequestError) bool { return e.Phase == PhaseBeforeWire && !e.RetrySafe })
	}
	want(t, tr.socket == nil, true)
}
