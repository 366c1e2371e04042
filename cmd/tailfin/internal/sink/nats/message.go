package natssink

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Headers of a message. Values are cut at maxValue bytes; control characters
// become spaces.
const (
	HeaderName   = "Tailfin-Name"   // percent-encoded, as in the subject
	HeaderTime   = "Tailfin-Time"   // when the request arrived, RFC 3339 in UTC
	HeaderPeer   = "Tailfin-Peer"   // address and port of the client
	HeaderMethod = "Tailfin-Method" // PUT, POST or PATCH
	HeaderHost   = "Tailfin-Host"   // authority of the request
	HeaderPath   = "Tailfin-Path"   // path and query, as they came
	HeaderSize   = "Tailfin-Size"   // of the body in bytes
	HeaderSHA256 = "Tailfin-SHA256" // of the body, in hexadecimal
	HeaderBody   = "Tailfin-Body"   // BodyInline or BodyObject
	// HeaderRequest starts the names of the request's own headers that are kept:
	// Tailfin-Request-Content-Type.
	HeaderRequest = "Tailfin-Request-"

	// On messages with BodyObject, and on each chunk of the object.
	HeaderObject = "Tailfin-Object" // its name in the object store
	HeaderBucket = "Tailfin-Bucket"

	// On chunks only, for the sweep.
	headerStream  = "Tailfin-Stream"  // where the message goes that refers to the object
	headerCreated = "Tailfin-Created" // when that stream was created, in Unix nanoseconds
	headerAfter   = "Tailfin-After"   // the message's sequence is above this
)

// Values of HeaderBody.
const (
	BodyInline = "inline" // the data of the message is the body
	BodyObject = "object" // the data is a Reference
)

// maxValue bounds one header value in bytes. JetStream takes 64 KiB of headers a
// message; requests are allowed more.
const maxValue = 2 << 10

// idempotencyKey is the header by which a client names an upload that it sends
// again (draft-ietf-httpapi-idempotency-key-header).
const idempotencyKey = "Idempotency-Key"

// A Reference is the data of a message whose body is in the object store.
type Reference struct {
	Bucket string `json:"bucket"`
	Object string `json:"object"`
	Name   string `json:"name"` // of the upload
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Token encodes a name as one token of a subject: all but letters, digits, - and
// _ is percent-encoded.
func Token(name string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// NameOf is the name that a Token was made of.
func NameOf(token string) (string, error) { return url.PathUnescape(token) }

// header has all of an upload that is known before its body.
func (c *Config) header(up sink.Upload) nats.Header {
	h := nats.Header{
		HeaderName:   {Token(up.Name)},
		HeaderTime:   {up.Time.UTC().Format(time.RFC3339Nano)},
		HeaderPeer:   {clean(up.Peer)},
		HeaderMethod: {clean(up.Method)},
		HeaderHost:   {clean(up.Host)},
		HeaderPath:   {clean(up.Path)},
	}
	for _, name := range c.Headers {
		if v := up.Header.Values(name); len(v) > 0 {
			h[HeaderRequest+name] = []string{clean(strings.Join(v, ", "))}
		}
	}
	return h
}

// clean makes s fit for a header value.
func clean(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// setBody adds what is known after the body.
func setBody(h nats.Header, kind string, size int64, sum string) {
	h[HeaderBody] = []string{kind}
	h[HeaderSize] = []string{strconv.FormatInt(size, 10)}
	h[HeaderSHA256] = []string{sum}
}

// headerRoom is how many bytes of a message are not for its data: h, and what is
// added to it.
func headerRoom(h nats.Header) int64 {
	room := 1024
	for name, values := range h {
		for _, v := range values {
			room += len(name) + len(v) + len(": \r\n")
		}
	}
	return int64(room)
}

// messageID is the Nats-Msg-Id of an upload. The parts are hashed with their
// lengths, so that no two uploads share an ID because of where one part ends.
func messageID(up sink.Upload, sum string) string {
	key := up.Header.Get(idempotencyKey)
	if key == "" {
		return nuid.Next()
	}
	h := sha256.New()
	for _, part := range []string{up.Name, key, sum} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return "idem-" + hex.EncodeToString(h.Sum(nil)[:20])
}
