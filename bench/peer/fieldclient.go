package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A FieldClient is an HTTP/3 client that sends field sections as they are given, most of
// which no HTTP library would send: names with spaces, values with line ends,
// pseudo-header fields twice or in trailers. It is safe for concurrent use.
type FieldClient struct {
	socket *net.UDPConn
	tr     *quic.Transport
	conn   *quic.Conn
}

// DialFields connects to a server and sends SETTINGS. It trusts any certificate.
func DialFields(ctx context.Context, addr string) (*FieldClient, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c := &FieldClient{}
	if c.socket, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	c.tr = &quic.Transport{Conn: c.socket}
	c.conn, err = c.tr.Dial(ctx, to, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a peer for loopback tests
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
	}, nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	control, err := c.conn.OpenUniStream()
	if err == nil {
		b := h3frame.AppendStreamType(nil, h3frame.StreamControl)
		_, err = control.Write(h3frame.AppendSettings(b, h3frame.Settings{}))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection.
func (c *FieldClient) Close() {
	if c.conn != nil {
		_ = c.conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
	}
	_ = c.tr.Close()
	_ = c.socket.Close()
}

// Closed tells that the connection is over: the server found that it broke the rules.
func (c *FieldClient) Closed() bool { return c.conn.Context().Err() != nil }

// A FieldAnswer is the answer to a request.
type FieldAnswer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Interim int // responses of 1xx
}

// maxFieldAnswer bounds the answer that is read, in bytes of its frames.
const maxFieldAnswer = 64 << 20

// Do sends a request of a header section, and what follows: a body unless it is nil, a
// trailer section unless that is. The error is that of the stream, or of the
// connection, if there is no answer or not all of one.
func (c *FieldClient) Do(ctx context.Context, head []h3frame.Field, body []byte, trailer []h3frame.Field) (FieldAnswer, error) {
	str, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return FieldAnswer{}, err
	}
	stop := context.AfterFunc(ctx, func() {
		str.CancelRead(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
		str.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeRequestCancelled))
	})
	defer stop()
	wire := h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, head))
	if body != nil {
		wire = h3frame.AppendData(wire, body)
	}
	if trailer != nil {
		wire = h3frame.AppendHeaders(wire, h3frame.AppendFieldSection(nil, trailer))
	}
	// A server may answer before it has read all, and tell that it reads no more.
	if _, err := str.Write(wire); err == nil {
		_ = str.Close()
	}
	answer, rerr := io.ReadAll(io.LimitReader(str, maxFieldAnswer))
	return parseFieldAnswer(answer, rerr)
}

// parseFieldAnswer takes the frames of an answer, and how its stream ended.
func parseFieldAnswer(frames []byte, end error) (FieldAnswer, error) {
	var a FieldAnswer
	dec := h3frame.NewDecoder(h3frame.ResponseStream, h3frame.Limits{MaxFieldSectionSize: maxFieldAnswer})
	buf := dec.Buffer()
	defer buf.Release()
	buf.Append(frames)
	if end == nil {
		end = io.EOF
	}
	buf.Finish(end)
	for {
		f, err := dec.Next()
		switch {
		case errors.Is(err, io.EOF) && a.Status != 0:
			return a, nil
		case err != nil:
			return a, fmt.Errorf("answer: %w", err)
		case f.Type == h3frame.FrameData:
			a.Body = append(a.Body, f.Payload...)
		case f.Type == h3frame.FrameHeaders && a.Status == 0:
			fields, err := h3frame.DecodeFieldSection(f.Payload, maxFieldAnswer)
			if err != nil {
				return a, err
			}
			head, err := h3frame.ParseResponseFields(fields)
			if err != nil {
				return a, err
			}
			if head.Status < http.StatusOK {
				a.Interim++
				continue
			}
			a.Status, a.Header = head.Status, head.Header
		}
	}
}
