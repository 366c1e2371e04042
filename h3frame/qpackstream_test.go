package h3frame

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestQPACKStream(t *testing.T) {
	for _, tc := range []struct {
		name string
		typ  StreamType
		in   string
		want ErrorCode // 0: legal
	}{
		{"nothing", StreamQPACKEncoder, "", 0},
		{"capacity 0", StreamQPACKEncoder, "\x20\x20", 0},
		{"capacity 1", StreamQPACKEncoder, "\x21", ErrCodeQPACKEncoderStream},
		{"capacity 4096", StreamQPACKEncoder, "\x3f\xe1\x1f", ErrCodeQPACKEncoderStream},
		{"capacity 10000000000", StreamQPACKEncoder, "\x3f\xe1\xc7\xaf\xa0\x25", ErrCodeQPACKEncoderStream},
		{"capacity without an end", StreamQPACKEncoder, "\x3f" + strings.Repeat("\x80", 12), ErrCodeQPACKEncoderStream},
		{"capacity cut", StreamQPACKEncoder, "\x3f\xe1", 0}, // the rest may come
		{"insert with static name", StreamQPACKEncoder, "\xc0\x01a", ErrCodeQPACKEncoderStream},
		{"insert with dynamic name", StreamQPACKEncoder, "\x80\x01a", ErrCodeQPACKEncoderStream},
		{"insert with literal name", StreamQPACKEncoder, "\x41a\x01b", ErrCodeQPACKEncoderStream},
		{"duplicate", StreamQPACKEncoder, "\x00", ErrCodeQPACKEncoderStream},
		{"insert after capacity 0", StreamQPACKEncoder, "\x20\xc0", ErrCodeQPACKEncoderStream},
		{"nothing", StreamQPACKDecoder, "", 0},
		{"cancellations", StreamQPACKDecoder, "\x44\x7f\x80\x01\x40", 0},
		{"cancellation of the last stream", StreamQPACKDecoder, "\x7f\xbd\xff\xff\xff\xff\xff\xff\xff\x3f", 0},
		{"cancellation without an end", StreamQPACKDecoder, "\x7f" + strings.Repeat("\x80", 12), ErrCodeQPACKDecoderStream},
		{"acknowledgement", StreamQPACKDecoder, "\x84", ErrCodeQPACKDecoderStream},
		{"increment 0", StreamQPACKDecoder, "\x00", ErrCodeQPACKDecoderStream},
		{"increment 1", StreamQPACKDecoder, "\x01", ErrCodeQPACKDecoderStream},
		{"increment after a cancellation", StreamQPACKDecoder, "\x44\x01", ErrCodeQPACKDecoderStream},
	} {
		t.Run(tc.typ.String()+"/"+tc.name, func(t *testing.T) {
			for split := range len(tc.in) + 1 {
				q := NewQPACKStream(tc.typ)
				err := q.Feed([]byte(tc.in[:split]))
				if err == nil {
					err = q.Feed([]byte(tc.in[split:]))
				}
				if tc.want == 0 {
					if err != nil {
						t.Fatalf("split %d: %v", split, err)
					}
					frameErr := wantCode(t, q.Finish(io.EOF), ErrCodeClosedCriticalStream)
					if !frameErr.ConnectionError() || q.Feed([]byte{0}) != error(frameErr) {
						t.Error("the end does not end the connection, or does not stay")
					}
					continue
				}
				frameErr := wantCode(t, err, tc.want)
				if !frameErr.ConnectionError() || q.Feed([]byte{0x20, 0x44}) != err || q.Finish(nil) != err {
					t.Errorf("split %d: the error does not end the connection, or does not stay", split)
				}
			}
		})
	}
	frameErr := wantCode(t, NewQPACKStream(StreamQPACKDecoder).Finish(errReset), ErrCodeClosedCriticalStream)
	if !errors.Is(frameErr, errReset) {
		t.Errorf("cause %v", frameErr.Cause)
	}
}

// FuzzQPACKStream sees that chunks make no difference, and that nothing but a
// capacity of 0 and cancellations passes.
func FuzzQPACKStream(f *testing.F) {
	f.Add(true, []byte("\x20\x3f\xe1\x1f"), 1)
	f.Add(false, []byte("\x44\x7f\x80\x01\x01"), 3)
	f.Fuzz(func(t *testing.T, encoder bool, in []byte, split int) {
		typ := StreamQPACKDecoder
		if encoder {
			typ = StreamQPACKEncoder
		}
		whole := NewQPACKStream(typ)
		want := whole.Feed(in)
		parts := NewQPACKStream(typ)
		split = min(max(split, 0), len(in))
		_ = parts.Feed(in[:split])
		if got := parts.Feed(in[split:]); (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
			t.Fatalf("whole: %v, split at %d: %v", want, split, got)
		}
		if want == nil && encoder {
			// Nothing but capacities of 0, which have no longer encoding, and at the end
			// part of an integer.
			rest := bytes.TrimLeft(in, "\x20")
			if len(rest) > 0 && (rest[0] != 0x3f || slices.ContainsFunc(rest[1:], func(c byte) bool { return c < integerMore })) {
				t.Fatalf("%x passes", in)
			}
		}
	})
}
