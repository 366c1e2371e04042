package decode

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A drawer draws what differs from message to message.
type drawer struct{ *rand.Rand }

func newDrawer(seed uint64, what string) drawer {
	var key [32]byte
	copy(key[:], strconv.FormatUint(seed, 10)+" "+what)
	return drawer{rand.New(rand.NewChaCha8(key))} //nolint:gosec // a transcript, and one that can be had again
}

func (d drawer) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(d.Uint32())
	}
	return p
}

func (d drawer) hex(n int) string    { return hex.EncodeToString(d.bytes(n)) }
func (d drawer) base64(n int) string { return base64.RawURLEncoding.EncodeToString(d.bytes(n)) }

func (d drawer) date() string {
	return time.Unix(1_760_000_000+d.Int64N(1<<24), 0).UTC().Format(http.TimeFormat)
}

// header makes a Header of names, which are in their canonical form, and values.
func header(pairs ...string) http.Header {
	h := make(http.Header, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

// request draws one of the requests that a site with pages, an API and uploads gets.
func (d drawer) request() h3frame.RequestHead {
	head := h3frame.RequestHead{Method: http.MethodGet, Scheme: "https", Authority: "www.example.org"}
	switch d.IntN(4) {
	case 0: // a page, by a browser
		head.Path = fmt.Sprintf("/articles/%d?page=%d", d.IntN(1e6), d.IntN(20))
		head.Header = header(
			"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
			"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
			"Accept-Encoding", "gzip, deflate, br, zstd", "Accept-Language", "en-GB,en;q=0.9,de;q=0.7",
			"Cookie", "session="+d.base64(32)+"; consent=1; theme=dark", "Referer", "https://www.example.org/",
			"Sec-Ch-Ua", `"Chromium";v="141", "Not?A_Brand";v="8"`, "Sec-Ch-Ua-Mobile", "?0", "Sec-Ch-Ua-Platform", `"Linux"`,
			"Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-User", "?1",
			"Upgrade-Insecure-Requests", "1", "Priority", "u=0, i")
	case 1: // a call of an API
		head.Method, head.Authority, head.Path = http.MethodPost, "api.example.org", "/v1/orders/"+d.hex(8)
		head.Header = header(
			"Accept", "application/json", "Accept-Encoding", "gzip", "Authorization", "Bearer "+d.base64(120),
			"Content-Type", "application/json", "User-Agent", "Go-http-client/3.0",
			"Traceparent", "00-"+d.hex(16)+"-"+d.hex(8)+"-01", "X-Request-Id", d.hex(16))
	case 2: // an upload of telemetry
		head.Method, head.Authority, head.Path = http.MethodPut, "in.example.org:4433", fmt.Sprintf("/device-%d/%s", d.IntN(5000), d.hex(6))
		head.Header = header("Content-Type", "application/octet-stream", "User-Agent", "sensor/2.4.1", "Idempotency-Key", d.hex(16))
	default: // a download, by curl
		head.Path = "/downloads/" + d.hex(10) + ".tar.gz"
		head.Header = header("User-Agent", "curl/8.14.1", "Accept", "*/*")
	}
	return head
}

// response draws one of their answers.
func (d drawer) response() h3frame.ResponseHead {
	head := h3frame.ResponseHead{Status: http.StatusOK}
	switch d.IntN(4) {
	case 0:
		head.Header = header(
			"Content-Type", "text/html; charset=utf-8", "Content-Encoding", "br", "Cache-Control", "private, max-age=0, must-revalidate",
			"Set-Cookie", "session="+d.base64(32)+"; Path=/; Secure; HttpOnly; SameSite=Lax", "Vary", "Accept-Encoding, Cookie",
			"Strict-Transport-Security", "max-age=31536000; includeSubDomains", "X-Content-Type-Options", "nosniff",
			"Content-Security-Policy", "default-src 'self'; img-src 'self' data:; object-src 'none'", "Referrer-Policy", "same-origin",
			"Alt-Svc", `h3=":443"; ma=86400`, "Server", "tailfin", "Date", d.date())
	case 1:
		head.Status = http.StatusCreated
		head.Header = header("Content-Type", "application/json", "Location", "/v1/orders/"+d.hex(8), "X-Request-Id", d.hex(16), "Date", d.date())
	case 2:
		head.Status = http.StatusNotModified
		head.Header = header("Etag", `"`+d.hex(8)+`"`, "Cache-Control", "public, max-age=31536000, immutable", "Date", d.date())
	default:
		head.Header = header(
			"Content-Type", "application/gzip", "Accept-Ranges", "bytes", "Last-Modified", d.date(), "Etag", `"`+d.hex(10)+`"`,
			"Server", "tailfin", "Date", d.date())
	}
	return head
}
