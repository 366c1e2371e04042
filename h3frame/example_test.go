package h3frame_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// The connection was closed with an error in the same batch that brought the
// end of the response: every byte comes first, then the close.
func ExampleDecoder() {
	errClosed := errors.New("the peer closed the connection")

	dec := h3frame.NewDecoder(h3frame.ResponseStream, h3frame.Limits{})
	buf := dec.Buffer()
	defer buf.Release()

	wire := h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, []h3frame.Field{{Name: ":status", Value: "200"}}))
	wire = h3frame.AppendFrameHeader(wire, h3frame.FrameData, 5)
	buf.Append(wire)               // a chunk by reference
	n := copy(buf.Reserve(), "fi") // a read into the buffer's own memory
	buf.Commit(n)
	buf.Append([]byte("nal"))
	buf.Finish(errClosed) // io.EOF for a FIN

	for {
		f, err := dec.Next()
		switch {
		case errors.Is(err, h3frame.ErrNeedMore):
			fmt.Println("here one would read more") // not reached: the stream has ended
			return
		case err != nil:
			fmt.Println("error:", err)
			return
		case f.Type == h3frame.FrameHeaders:
			fields, _ := h3frame.DecodeFieldSection(f.Payload, 0)
			head, err := h3frame.ParseResponseFields(fields)
			fmt.Println("status", head.Status, err)
		case f.Type == h3frame.FrameData:
			fmt.Printf("%q of %d bytes, more: %v\n", f.Payload, f.Length, f.More)
		}
	}
	// Output:
	// status 200 <nil>
	// "fi" of 5 bytes, more: true
	// "nal" of 5 bytes, more: false
	// error: the peer closed the connection
}

// A frame that the close cuts short is told apart from one that the peer cut
// short itself, with a FIN.
func ExampleTruncatedError() {
	for _, end := range []error{errors.New("connection closed"), io.EOF} {
		dec := h3frame.NewDecoder(h3frame.RequestStream, h3frame.Limits{})
		dec.Buffer().Append(h3frame.AppendFrameHeader(nil, h3frame.FrameHeaders, 100))
		dec.Buffer().Finish(end)
		_, err := dec.Next()
		var cut *h3frame.TruncatedError
		fmt.Println(errors.As(err, &cut), err)
	}
	// Output:
	// true h3frame: HEADERS frame cut short at 0 of 100 bytes: connection closed
	// false h3frame: H3_FRAME_ERROR: stream ends within the payload of a HEADERS frame: unexpected EOF
}

// A whole message: its head, its content, and an end that tells a complete one from
// one that was cut. The connection closed without a FIN here, but nothing is missing.
func ExampleMessageDecoder() {
	dec := h3frame.NewRequestDecoder(h3frame.Limits{})
	buf := dec.Buffer()
	defer buf.Release()

	buf.Append(h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, h3frame.RequestFields(h3frame.RequestHead{
		Method: http.MethodPut, Scheme: "https", Authority: "example.com", Path: "/report",
		Header: http.Header{"Content-Length": {"5"}},
	}))))
	buf.Append(h3frame.AppendData(nil, []byte("final")))
	buf.Finish(errors.New("the peer closed the connection"))

	for {
		ev, err := dec.Next()
		switch {
		case err != nil:
			fmt.Println(err, dec.Received(), "of", dec.ContentLength())
			return
		case ev.Kind == h3frame.EventHead:
			fmt.Println(ev.Request.Method, ev.Request.Path)
		case ev.Kind == h3frame.EventBody:
			fmt.Printf("%q\n", ev.Body)
		}
	}
	// Output:
	// PUT /report
	// "final"
	// EOF 5 of 5
}

// Capsules (RFC 9297) come out of a message's content, in pieces of any size.
func ExampleCapsuleDecoder() {
	content := h3frame.AppendCapsule(nil, h3frame.CapsuleDatagram, []byte("ping"))
	content = h3frame.AppendCapsule(content, h3frame.GreaseCapsule(4), []byte("skipped"))

	dec := h3frame.NewCapsuleDecoder(1500)
	for _, piece := range [][]byte{content[:3], content[3:]} {
		_, _ = dec.Buffer().Write(piece)
		for {
			c, err := dec.Next()
			if err != nil {
				fmt.Println(err)
				break
			}
			fmt.Printf("%s %q\n", c.Type, c.Payload)
		}
	}
	// Output:
	// h3frame: need more data
	// DATAGRAM "ping"
	// h3frame: need more data
}

// The peer's unidirectional streams: one control stream, and QPACK streams that may
// not touch a dynamic table.
func ExampleUniStreams() {
	var streams h3frame.UniStreams
	fmt.Println(streams.Open(h3frame.StreamControl))
	fmt.Println(streams.Open(h3frame.StreamControl))

	fmt.Println(streams.Open(h3frame.StreamQPACKEncoder))
	fmt.Println(h3frame.NewQPACKStream(h3frame.StreamQPACKEncoder).Feed([]byte{0x3f, 0xe1, 0x1f}))
	// Output:
	// <nil>
	// h3frame: H3_STREAM_CREATION_ERROR: second control stream
	// <nil>
	// h3frame: QPACK_ENCODER_STREAM_ERROR: dynamic table capacity 4096 above our limit of 0
}
