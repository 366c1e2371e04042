package h3frame_test

import (
	"errors"
	"fmt"
	"io"

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
