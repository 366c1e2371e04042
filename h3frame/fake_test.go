package h3frame

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
)

// What quic-go reports of a connection or a stream that has ended.
var (
	errClose     error = &quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(ErrCodeNoError)}
	errInternal  error = &quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(ErrCodeInternal)}
	errTransport error = &quic.TransportError{Remote: true, ErrorCode: quic.FlowControlError}
	errIdle      error = &quic.IdleTimeoutError{}
	errReset     error = &quic.StreamError{Remote: true, ErrorCode: quic.StreamErrorCode(ErrCodeRequestCancelled)}
)

// A transcript builds the bytes of a stream.
type transcript struct{ b []byte }

// base is what to append to, so that two transcripts may go on from one.
func (s transcript) base() []byte { return slices.Clip(s.b) }

func (s transcript) headers(section string) transcript {
	return transcript{AppendHeaders(s.base(), []byte(section))}
}

func (s transcript) data(p string) transcript { return transcript{AppendData(s.base(), []byte(p))} }

func (s transcript) frame(t FrameType, payload string) transcript {
	return transcript{append(AppendFrameHeader(s.base(), t, uint64(len(payload))), payload...)}
}

// head is a frame header that promises length bytes.
func (s transcript) head(t FrameType, length uint64) transcript {
	return transcript{AppendFrameHeader(s.base(), t, length)}
}

func (s transcript) raw(p string) transcript { return transcript{append(s.base(), p...)} }

func (s transcript) settings() transcript { return transcript{AppendSettings(s.base(), Settings{})} }

// An ending is what a stream ends with.
type ending struct {
	name string
	err  error
}

const (
	fin   = "FIN"
	reset = "reset"
)

var endings = []ending{
	{fin, io.EOF},
	{"close 0x100", errClose},
	{"close 0x102", errInternal},
	{"transport error", errTransport},
	{"idle timeout", errIdle},
	{reset, errReset},
}

func (e ending) apply(b *Buffer) {
	if e.name == reset {
		b.Reset(e.err)
		return
	}
	b.Finish(e.err)
}

// A recorder writes down what a decoder returns so that it can be compared with
// what came in other chunks: pieces of one DATA frame run together, and a record
// of part of the input is a prefix of the record of more.
type recorder struct {
	log   strings.Builder
	in    bool   // within a DATA frame
	left  uint64 // of it
	calls int
}

// drain calls Next until it returns an error, and checks what holds of every frame.
func (r *recorder) drain(t testing.TB, d *Decoder) error {
	t.Helper()
	for {
		r.calls++
		f, err := d.Next()
		if err != nil {
			return err
		}
		if f.Type != FrameData {
			if f.More || uint64(len(f.Payload)) != f.Length || r.in {
				t.Fatalf("%s frame: More %v, %d of %d bytes, within DATA %v", f.Type, f.More, len(f.Payload), f.Length, r.in)
			}
			fmt.Fprintf(&r.log, "\n%s %q", f.Type, f.Payload)
			switch {
			case f.Type != FrameHeaders:
			case isInterim(f.Payload):
				d.Interim()
			case isConnect(f.Payload):
				d.Tunnel()
			}
			continue
		}
		if len(f.Payload) == 0 {
			t.Fatal("empty DATA piece")
		}
		if !r.in {
			fmt.Fprintf(&r.log, "\nDATA(%d) ", f.Length)
			r.left = f.Length
		}
		r.log.Write(f.Payload)
		r.left -= uint64(len(f.Payload))
		r.in = f.More
		if f.More != (r.left > 0) {
			t.Fatalf("More %v with %d bytes left", f.More, r.left)
		}
	}
}

// isInterim marks the field sections that these tests take for a 1xx head.
func isInterim(section []byte) bool { return len(section) > 0 && section[0] == '1' }

// isConnect marks those that they take for the completion of a CONNECT.
func isConnect(section []byte) bool { return len(section) > 0 && section[0] == 'C' }

// describe spells an end without its causes, which depend on what was known when.
func describe(err error) string {
	var frameErr *FrameError
	var cut *TruncatedError
	switch {
	case errors.As(err, &frameErr):
		return fmt.Sprintf("%s %s: %s", frameErr.Code, frameErr.Type, frameErr.Reason)
	case errors.As(err, &cut) && cut.Header:
		return fmt.Sprintf("truncated header %d (%v)", cut.Got, cut.Err)
	case errors.As(err, &cut):
		return fmt.Sprintf("truncated %s %d/%d (%v)", cut.Type, cut.Got, cut.Want, cut.Err)
	}
	return err.Error()
}

func mustNext(t testing.TB, d *Decoder) Frame {
	t.Helper()
	f, err := d.Next()
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return f
}

// wantSticky checks that later calls return the same value, whatever is fed.
func wantSticky(t testing.TB, d *Decoder, want error) {
	t.Helper()
	b := d.Buffer()
	for i := range 4 {
		f, err := d.Next()
		if err != want {
			t.Fatalf("call %d after the error: %v, %v; want %v", i, f, err, want)
		}
		switch i {
		case 0:
			b.Append(transcript{}.headers("late").b)
			b.Finish(errors.New("late"))
		case 1:
			b.Reset(errors.New("late"))
		case 2:
			b.Release()
		}
	}
}

// wantCode checks for a protocol error.
func wantCode(t testing.TB, err error, code ErrorCode) *FrameError {
	t.Helper()
	var frameErr *FrameError
	if !errors.As(err, &frameErr) || frameErr.Code != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	if errors.Is(err, io.EOF) {
		t.Fatalf("%v passes for io.EOF", err)
	}
	return frameErr
}
