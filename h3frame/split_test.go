package h3frame

import "testing"

// splitPushes is how many pushes exist in the transcripts.
const splitPushes = 8

// transcripts have all that may be on a stream, by role.
var transcripts = map[Role]transcript{
	RequestStream: transcript{}.
		headers("GET /").
		frame(FrameType(Grease(0)), "grease").
		data("hello ").
		data("").
		frame(0xf07ff, "").
		data("world").
		headers("trailer").
		frame(FrameType(Grease(1<<40)), "skipped"),
	ResponseStream: transcript{}.
		headers("103 early hints").
		frame(FrameType(Grease(3)), "grease").
		frame(FramePushPromise, "\x07promise").
		headers("200 head").
		data("hello ").
		frame(FrameType(Grease(1<<33)), "").
		data("").
		data("").
		data("world of more than sixty-three bytes, so that the length of this frame takes two").
		headers("trailer").
		frame(0xf07ff, "skipped"),
	PushStream: transcript{}.
		headers("103").headers("200 head").data("body").frame(0x21, "g").data("").data("more").headers("trailer"),
	ClientControlStream: transcript{AppendSettings(nil, Settings{MaxFieldSectionSize: SettingValue(70000), Other: []Setting{{ID: 0x21, Value: 9}}})}.
		frame(0x21, "grease").
		raw(string(AppendMaxPushID(nil, 200))).
		raw(string(AppendCancelPush(nil, 3))).
		raw(string(AppendPriorityUpdate(nil, FramePriorityUpdateRequest, 4, Priority{1, true}))).
		raw(string(AppendPriorityUpdate(nil, FramePriorityUpdatePush, 7, DefaultPriority))).
		raw(string(AppendGoAway(nil, 1<<20))).
		raw(string(AppendGoAway(nil, 4))),
	ServerControlStream: transcript{AppendSettings(nil, Settings{EnableConnectProtocol: true, H3Datagram: true})}.
		frame(0x21, "").
		raw(string(AppendCancelPush(nil, 7))).
		raw(string(AppendGoAway(nil, MaxRequestStreamID))).
		raw(string(AppendGoAway(nil, 8))),
}

// feeders give the same bytes in different chunks; some let the decoder see every
// state in between.
var feeders = map[string]func(b *Buffer, p []byte, next func()){
	"one chunk":       func(b *Buffer, p []byte, _ func()) { b.Append(p) },
	"one chunk, read": func(b *Buffer, p []byte, _ func()) { _, _ = b.Write(p) },
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

// eachSplit calls check with every way of feeding p: every feeder, and two chunks
// cut at every byte, decoded in between or only afterwards. It returns their number.
func eachSplit(p []byte, check func(how string, feed func(b *Buffer, next func()))) int {
	for how, feed := range feeders {
		check(how, func(b *Buffer, next func()) { feed(b, p, next) })
	}
	for split := range p {
		check("two chunks", func(b *Buffer, next func()) {
			b.Append(p[:split])
			next()
			b.Append(p[split:])
		})
		check("two chunks, then decoded", func(b *Buffer, _ func()) {
			b.Append(p[:split])
			_, _ = b.Write(p[split:])
		})
	}
	return len(feeders) + 2*len(p)
}

// TestSplit cuts the transcript of each kind of stream after every byte, feeds
// what is before the cut in all ways, and ends it in all ways. The outcome depends
// on the bytes and the end alone, and is the model's.
func TestSplit(t *testing.T) {
	total := 0
	for _, role := range roles {
		t.Run(role.String(), func(t *testing.T) {
			full := transcripts[role].b
			combinations := 0
			for cut := range len(full) + 1 {
				for _, end := range endings {
					want, wantEnd := reference(role, splitPushes, full[:cut], end)
					combinations += eachSplit(full[:cut], func(how string, feed func(b *Buffer, next func())) {
						t.Helper()
						d := NewDecoder(role, Limits{})
						d.AllowPushes(splitPushes)
						var r recorder
						feed(d.Buffer(), func() {
							if err := r.drain(t, d); err != ErrNeedMore {
								t.Fatalf("cut %d, %s: %v before the end", cut, how, err)
							}
						})
						end.apply(d.Buffer())
						err := r.drain(t, d)
						if r.calls > 3*(cut+2) {
							t.Fatalf("cut %d, %s: %d calls", cut, how, r.calls)
						}
						agree(t, d, &r, err, end, want, wantEnd)
					})
				}
			}
			n := len(full)
			if want := len(endings) * ((n+1)*len(feeders) + n*(n+1)); combinations != want {
				t.Errorf("%d combinations, want %d", combinations, want)
			}
			t.Logf("%d bytes, %d combinations of cut, feeding and end", n, combinations)
			total += combinations
		})
	}
	t.Logf("%d combinations in all", total)
}
