package h3frame

import (
	"strings"
	"testing"
)

// message is a transcript of all that a response may have.
func message() transcript {
	return transcript{}.
		headers("103 early hints").
		frame(FrameType(Grease(3)), "grease").
		headers("200 head").
		data("hello ").
		frame(FrameType(Grease(1<<33)), "").
		data("").
		data("").
		data("world of more than sixty-three bytes, so that the length of this frame takes two").
		headers("trailer").
		frame(0xf0700, "skipped")
}

// feeders give the same bytes in different chunks; all but the first let the
// decoder see every state in between.
var feeders = map[string]func(b *Buffer, p []byte, next func()){
	"one chunk": func(b *Buffer, p []byte, _ func()) { b.Append(p) },
	"byte by byte, appended": func(b *Buffer, p []byte, next func()) {
		for i := range p {
			b.Append(p[i : i+1])
			next()
		}
	},
	"byte by byte, read": func(b *Buffer, p []byte, next func()) {
		for i := range p {
			b.Reserve()[0] = p[i]
			b.Commit(1)
			next()
		}
	},
	"byte by byte, then decoded": func(b *Buffer, p []byte, _ func()) {
		for i := range p {
			b.Append(p[i : i+1])
		}
	},
}

// TestSplit cuts the transcript after every byte, feeds what is before the cut in
// all ways, and ends it in all ways. The outcome depends on the bytes and the end
// alone.
func TestSplit(t *testing.T) {
	full := message().b
	for cut := range len(full) + 1 {
		for _, end := range endings {
			want, wantEnd := reference(ResponseStream, full[:cut], end.name)
			check := func(how string, feed func(b *Buffer, p []byte, next func())) {
				t.Helper()
				d := NewDecoder(ResponseStream, Limits{})
				var r recorder
				feed(d.Buffer(), full[:cut], func() {
					if err := r.drain(t, d); err != ErrNeedMore {
						t.Fatalf("cut %d, %s: %v before the end", cut, how, err)
					}
				})
				end.apply(d.Buffer())
				err := r.drain(t, d)
				got := r.log.String()
				// A reset hides what had not been returned before it.
				if got != want && (end.name != "reset" || !strings.HasPrefix(want, got)) {
					t.Fatalf("cut %d, %s, %s: delivered %s\nwant %s", cut, how, end.name, got, want)
				}
				if describe(err) != wantEnd {
					t.Fatalf("cut %d, %s, %s: ends with %q, want %q", cut, how, end.name, describe(err), wantEnd)
				}
				if r.calls > 3*(cut+2) {
					t.Fatalf("cut %d, %s: %d calls", cut, how, r.calls)
				}
				wantSticky(t, d, err)
			}
			for how, feed := range feeders {
				check(how, feed)
			}
			for split := range cut {
				check("two chunks", func(b *Buffer, p []byte, next func()) {
					b.Append(p[:split])
					next()
					b.Append(p[split:])
				})
				check("two chunks, then decoded", func(b *Buffer, p []byte, _ func()) {
					b.Append(p[:split])
					copy(b.Reserve(), p[split:])
					b.Commit(len(p) - split)
				})
			}
		}
	}
}

// TestSplitControl does the same for a control stream, whose frames all have to
// be contiguous.
func TestSplitControl(t *testing.T) {
	full := transcript{AppendSettings(nil, Settings{MaxFieldSectionSize: SettingValue(70000), Other: []Setting{{ID: 0x21, Value: 9}}})}.
		frame(0x21, "grease").frame(FrameMaxPushID, "\x40\x08").raw(string(AppendGoAway(nil, 1<<20))).b
	for cut := range len(full) + 1 {
		for _, end := range endings {
			want, wantEnd := reference(ControlStream, full[:cut], end.name)
			for how, feed := range feeders {
				d := NewDecoder(ControlStream, Limits{})
				var r recorder
				feed(d.Buffer(), full[:cut], func() { _ = r.drain(t, d) })
				end.apply(d.Buffer())
				err := r.drain(t, d)
				if got := r.log.String(); got != want && (end.name != "reset" || !strings.HasPrefix(want, got)) {
					t.Fatalf("cut %d, %s, %s: delivered %s\nwant %s", cut, how, end.name, got, want)
				}
				if describe(err) != wantEnd {
					t.Fatalf("cut %d, %s, %s: ends with %q, want %q", cut, how, end.name, describe(err), wantEnd)
				}
				wantSticky(t, d, err)
			}
		}
	}
}
