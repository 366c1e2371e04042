package tailfin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestH3Spec asks of our server what h3spec (github.com/kazu-yamamoto/h3spec,
// v0.1.13) asks in its group "HTTP/3 servers", by the names of the sections it
// quotes. The bytes are those that h3spec sends, but where it has a slip (its
// "pseudo-header fields after fields" trips over a misspelt name first); h3frame's
// README has the table of both.
func TestH3Spec(t *testing.T) {
	const (
		stream     = false
		connection = true
	)
	control := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	encoder := h3frame.AppendStreamType(nil, h3frame.StreamQPACKEncoder)
	decoder := h3frame.AppendStreamType(nil, h3frame.StreamQPACKDecoder)
	settings := h3frame.AppendSettings(nil, h3frame.Settings{})
	frame := func(typ h3frame.FrameType, payload string) []byte {
		return append(h3frame.AppendFrameHeader(nil, typ, uint64(len(payload))), payload...)
	}
	request := func(parts ...[]byte) func(*testing.T, *rawClient) *quic.Stream {
		return func(t *testing.T, c *rawClient) *quic.Stream { return c.send(t, parts...) }
	}
	uni := func(fin bool, parts ...[]byte) func(*testing.T, *rawClient) *quic.Stream {
		return func(t *testing.T, c *rawClient) *quic.Stream {
			c.sendUni(t, fin, parts...)
			return nil
		}
	}
	for _, tc := range []struct {
		name string
		send func(t *testing.T, c *rawClient) *quic.Stream
		code h3frame.ErrorCode
		ends bool // the connection, or only the stream
	}{
		{"HTTP/3 4.1 DATA before HEADERS", request(frame(h3frame.FrameData, ""), get("/")), h3frame.ErrCodeFrameUnexpected, connection},
		{"HTTP/3 4.1.1 pseudo-header duplicated", request(get("/", ":method", "GET")), h3frame.ErrCodeMessage, stream},
		{"HTTP/3 4.1.3 mandatory pseudo-header fields absent", request(section(":method", "GET", ":scheme", "https", ":path", "/")), h3frame.ErrCodeMessage, stream},
		{"HTTP/3 4.1.3 prohibited pseudo-header fields present", request(get("/", ":foo", "bar")), h3frame.ErrCodeMessage, stream},
		{"HTTP/3 4.1.3 pseudo-header fields after fields", request(section(":method", "GET", ":scheme", "https", ":authority", "127.0.0.1", "foo", "bar", ":path", "/")), h3frame.ErrCodeMessage, stream},
		{"HTTP/3 6.2.1 first control frame not SETTINGS", uni(false, control, h3frame.AppendMaxPushID(nil, 1), settings), h3frame.ErrCodeMissingSettings, connection},
		{"HTTP/3 7.2.1 DATA on a control stream", uni(false, control, settings, frame(h3frame.FrameData, "")), h3frame.ErrCodeFrameUnexpected, connection},
		{"HTTP/3 7.2.2 HEADERS on a control stream", uni(false, control, settings, frame(h3frame.FrameHeaders, "")), h3frame.ErrCodeFrameUnexpected, connection},
		{"HTTP/3 7.2.4 second SETTINGS", uni(false, control, settings, settings), h3frame.ErrCodeFrameUnexpected, connection},
		{"HTTP/3 7.2.4.1 HTTP/2 settings", uni(false, control, frame(h3frame.FrameSettings, "\x07\x40\x64\x02\x40\xc8\x01\x50\x00\x06\x80\x00\x80\x00")), h3frame.ErrCodeSettings, connection},
		{"HTTP/3 7.2.5 CANCEL_PUSH in a request stream", request(frame(h3frame.FrameCancelPush, ""), get("/")), h3frame.ErrCodeFrameUnexpected, connection},
		{"QPACK 3.1 static table index 99", request(frame(h3frame.FrameHeaders, "\x00\x00\xd1\xd7\x50\x09127.0.0.1\xc1\xff\x24")), h3frame.ErrCodeQPACKDecompressionFailed, connection},
		{"QPACK 4.1.3 dynamic table capacity above the limit", uni(false, encoder, []byte("\x3f\xe1\xc7\xaf\xa0\x25")), h3frame.ErrCodeQPACKEncoderStream, connection},
		{"QPACK 4.2 control stream closed", uni(true, control, settings), h3frame.ErrCodeClosedCriticalStream, connection},
		{"QPACK 4.2 encoder stream closed", uni(true, encoder), h3frame.ErrCodeClosedCriticalStream, connection},
		{"QPACK 4.2 decoder stream closed", uni(true, decoder), h3frame.ErrCodeClosedCriticalStream, connection},
		{"QPACK 4.4.3 Insert Count Increment 0", uni(false, decoder, []byte("\x00")), h3frame.ErrCodeQPACKDecoderStream, connection},

		// Not asked by h3spec, or only of the decoder's own tests.
		{"HTTP/3 7.2.4 duplicate settings", uni(false, control, frame(h3frame.FrameSettings, "\x07\x01\x07\x01")), h3frame.ErrCodeSettings, connection},
		{"HTTP/3 7.2.8 PING of HTTP/2", request(get("/"), frame(0x6, "12345678")), h3frame.ErrCodeFrameUnexpected, connection},
		{"HTTP/3 4.4 HEADERS in a tunnel", request(section(":method", "CONNECT", ":authority", "h:1"), section("a", "b")), h3frame.ErrCodeFrameUnexpected, connection},
		{"RFC 9218 7.2 PRIORITY_UPDATE in a request stream", request(h3frame.AppendPriorityUpdate(nil, h3frame.FramePriorityUpdateRequest, 0, h3frame.DefaultPriority)), h3frame.ErrCodeFrameUnexpected, connection},
		{"RFC 9218 7.2 PRIORITY_UPDATE of no request", uni(false, control, settings, h3frame.AppendPriorityUpdate(nil, h3frame.FramePriorityUpdateRequest, 1, h3frame.DefaultPriority)), h3frame.ErrCodeID, connection},
		{"QPACK 4.4.1 acknowledgement of nothing", uni(false, decoder, []byte("\x80")), h3frame.ErrCodeQPACKDecoderStream, connection},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startServer(t, &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			})})
			c := newRawClient(t, addr)
			str := tc.send(t, c)
			if tc.ends {
				wantConnClosed(t, c, tc.code)
				return
			}
			_, err := io.ReadAll(str)
			var reset *quic.StreamError
			if !errors.As(err, &reset) || h3frame.ErrorCode(reset.ErrorCode) != tc.code {
				t.Fatalf("%v, want a reset with %s", err, tc.code)
			}
			if b, err := io.ReadAll(c.send(t, get("/"))); err != nil || len(b) == 0 {
				t.Fatalf("the next request failed: %v", err)
			}
		})
	}
}

// wantConnClosed waits until the server closes the connection.
func wantConnClosed(t *testing.T, c *rawClient, code h3frame.ErrorCode) {
	t.Helper()
	select {
	case <-c.conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection goes on")
	}
	var closed *quic.ApplicationError
	if err := context.Cause(c.conn.Context()); !errors.As(err, &closed) || h3frame.ErrorCode(closed.ErrorCode) != code {
		t.Fatalf("%v, want %s", err, code)
	}
}
