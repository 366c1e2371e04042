package h3frame

import (
	"errors"
	"io"
	"testing"
)

const bodyPart = "the first bytes of a body"

// TestClose has the cases of "Drain-before-close" in the design, by number, for
// requests and responses. Data and end are all buffered before the first call.
func TestClose(t *testing.T) {
	whole := transcript{}.headers("head").data("body")
	for _, tc := range []struct {
		name string
		in   transcript
		ends []error // events in order; errReset is a reset
		want string  // what is delivered
		err  func(t *testing.T, err error)
	}{
		{"case01 whole message, FIN, then close", whole, []error{io.EOF, errClose},
			"\nHEADERS \"head\"\nDATA(4) body", same(io.EOF)},
		{"case02 whole message without FIN, close 0x100", whole, []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", same(errClose)},
		{"case03 part of a frame header, close", whole.raw("\x00\x40"), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", truncated(TruncatedError{Header: true, Got: 2, Err: errClose})},
		{"case03 type alone, close", transcript{}.raw("\x01"), []error{errClose},
			"", truncated(TruncatedError{Header: true, Got: 1, Err: errClose})},
		{"case03 part of HEADERS, close", transcript{}.head(FrameHeaders, 10).raw("head"), []error{errClose},
			"", truncated(TruncatedError{Type: FrameHeaders, Got: 4, Want: 10, Err: errClose})},
		{"case04 part of DATA, close", transcript{}.headers("head").head(FrameData, 100).raw(bodyPart), []error{errClose},
			"\nHEADERS \"head\"\nDATA(100) " + bodyPart, truncated(TruncatedError{Type: FrameData, Got: uint64(len(bodyPart)), Want: 100, Err: errClose})},
		{"case04 no byte of DATA, close", transcript{}.headers("head").head(FrameData, 100), []error{errClose},
			"\nHEADERS \"head\"", truncated(TruncatedError{Type: FrameData, Want: 100, Err: errClose})},
		{"case05 part of DATA, FIN", transcript{}.headers("head").head(FrameData, 100).raw(bodyPart), []error{io.EOF, errClose},
			"\nHEADERS \"head\"\nDATA(100) " + bodyPart, code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case05 no byte of DATA, FIN", transcript{}.headers("head").head(FrameData, 100), []error{io.EOF},
			"\nHEADERS \"head\"", code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case05 part of a frame header, FIN", whole.raw("\x00"), []error{io.EOF},
			"\nHEADERS \"head\"\nDATA(4) body", code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case05 part of HEADERS, FIN", transcript{}.head(FrameHeaders, 10).raw("head"), []error{io.EOF},
			"", code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case05 part of an unknown frame, FIN", transcript{}.head(0x21, 10).raw("abc"), []error{io.EOF},
			"", code(ErrCodeFrame, io.ErrUnexpectedEOF)},
		{"case06 reset with data buffered", whole, []error{errReset},
			"", same(errReset)},
		{"case06 FIN, then reset", whole, []error{io.EOF, errReset},
			"", same(errReset)},
		{"case06 reset within a frame", transcript{}.headers("head").head(FrameData, 100), []error{errReset, errClose},
			"", same(errReset)},
		{"case07 whole unknown frame, close", whole.frame(0x21, "grease").frame(0xf07ff, "skipped"), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", same(errClose)},
		{"case08 part of an unknown frame, close", whole.head(0x21, 1<<40).raw("grease"), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", truncated(TruncatedError{Type: 0x21, Got: 6, Want: 1 << 40, Err: errClose})},
		{"case09 HEADERS, DATA, HEADERS, close", whole.headers("trailer"), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body\nHEADERS \"trailer\"", same(errClose)},
		{"case10 zero-length DATA, close", whole.data("").data("").data("more").data(""), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body\nDATA(4) more", same(errClose)},
		{"case11 forbidden frame, close", whole.settings(), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", code(ErrCodeFrameUnexpected, errClose)},
		{"case11 reserved frame, part of it, close", whole.head(0x6, 8).raw("pi"), []error{errClose},
			"\nHEADERS \"head\"\nDATA(4) body", code(ErrCodeFrameUnexpected, errClose)},
		{"case11 forbidden frame, FIN", whole.settings(), []error{io.EOF},
			"\nHEADERS \"head\"\nDATA(4) body", code(ErrCodeFrameUnexpected, nil)},
		{"case12 close before any byte", transcript{}, []error{errClose},
			"", same(errClose)},
		{"case13 other code", whole, []error{errInternal},
			"\nHEADERS \"head\"\nDATA(4) body", same(errInternal)},
		{"case13 transport error", whole, []error{errTransport},
			"\nHEADERS \"head\"\nDATA(4) body", same(errTransport)},
		{"case13 idle timeout within a frame", whole.head(FrameData, 9).raw("b"), []error{errIdle},
			"\nHEADERS \"head\"\nDATA(4) body\nDATA(9) b", truncated(TruncatedError{Type: FrameData, Got: 1, Want: 9, Err: errIdle})},
		{"case14 FIN in an empty STREAM frame", whole.raw(""), []error{io.EOF},
			"\nHEADERS \"head\"\nDATA(4) body", same(io.EOF)},
		{"case14 FIN before any byte", transcript{}, []error{io.EOF},
			"", same(io.EOF)},
		{"case17 0-RTT rejected", whole, []error{errClose, errReset},
			"", same(errReset)},
		{"case18 DATA of 1 GiB, close", transcript{}.headers("head").head(FrameData, 1<<30).raw(bodyPart), []error{errClose},
			"\nHEADERS \"head\"\nDATA(1073741824) " + bodyPart, truncated(TruncatedError{Type: FrameData, Got: uint64(len(bodyPart)), Want: 1 << 30, Err: errClose})},
		{"case18 HEADERS of 1 GiB, close", transcript{}.head(FrameHeaders, 1<<30).raw("h"), []error{errClose},
			"", code(ErrCodeExcessiveLoad, errClose)},
	} {
		for role, roleName := range map[Role]string{RequestStream: "request", ResponseStream: "response"} {
			t.Run(tc.name+"/"+roleName, func(t *testing.T) {
				d := NewDecoder(role, Limits{})
				d.Buffer().Append(tc.in.b)
				for _, end := range tc.ends {
					if end == errReset {
						d.Buffer().Reset(end)
					} else {
						d.Buffer().Finish(end)
					}
				}
				var r recorder
				err := r.drain(t, d)
				if got := r.log.String(); got != tc.want {
					t.Errorf("delivered %s\nwant %s", got, tc.want)
				}
				tc.err(t, err)
				wantSticky(t, d, err) // case 15
			})
		}
	}
}

// TestCloseCase15 calls again after each kind of end.
func TestCloseCase15(t *testing.T) {
	for _, end := range endings {
		t.Run(end.name, func(t *testing.T) {
			d := NewDecoder(ResponseStream, Limits{})
			d.Buffer().Append(transcript{}.headers("head").data("body").b)
			end.apply(d.Buffer())
			var r recorder
			wantSticky(t, d, r.drain(t, d))
		})
	}
}

// A cutReader returns its last bytes together with its error, as io.Reader permits.
type cutReader struct {
	data []byte
	err  error
}

func (r *cutReader) Read(p []byte) (int, error) {
	n := copy(p, r.data)
	r.data = r.data[n:]
	if len(r.data) == 0 {
		return n, r.err
	}
	return n, nil
}

// TestCloseCase16 reads n > 0 with an error: the bytes count, then the error.
func TestCloseCase16(t *testing.T) {
	for _, end := range []error{io.EOF, errClose} {
		d := NewDecoder(ResponseStream, Limits{})
		b := d.Buffer()
		src := &cutReader{transcript{}.headers("head").data("body").b, end}
		n, err := src.Read(b.Reserve())
		b.Commit(n)
		b.Finish(err)
		var r recorder
		if got := r.drain(t, d); got != end || r.log.String() != "\nHEADERS \"head\"\nDATA(4) body" {
			t.Errorf("%v: delivered %s, then %v", end, r.log.String(), got)
		}
	}
}

// TestCloseBeforeDataOfItsBatch has the close recorded before the data that came
// with it: the order within a batch does not matter until Next reports the close.
func TestCloseBeforeDataOfItsBatch(t *testing.T) {
	d := NewDecoder(ResponseStream, Limits{})
	d.Buffer().Append(transcript{}.headers("head").b)
	d.Buffer().Finish(errClose)
	mustNext(t, d)
	d.Buffer().Append(transcript{}.data("body").b)
	var r recorder
	if err := r.drain(t, d); err != errClose || r.log.String() != "\nDATA(4) body" {
		t.Errorf("delivered %s, then %v", r.log.String(), err)
	}
}

func same(want error) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		if err != want {
			t.Errorf("error %v, want the value %v", err, want)
		}
	}
}

func truncated(want TruncatedError) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var cut *TruncatedError
		if !errors.As(err, &cut) || *cut != want {
			t.Fatalf("error %#v, want %#v", err, want)
		}
		var frameErr *FrameError
		if errors.As(err, &frameErr) || !errors.Is(err, want.Err) {
			t.Errorf("%v is a protocol error or hides the close", err)
		}
	}
}

func code(want ErrorCode, cause error) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		if frameErr := wantCode(t, err, want); frameErr.Cause != cause {
			t.Errorf("cause %v, want %v", frameErr.Cause, cause)
		}
	}
}
