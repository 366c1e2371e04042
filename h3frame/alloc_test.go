//go:build !race

// sync.Pool drops items at random under the race detector.

package h3frame

import (
	"testing"
)

func TestAllocs(t *testing.T) {
	body := endlessBody(t)
	frames, heads := manyFrames(1000), manyHeads(1)
	var d *Decoder
	b := make([]byte, 0, 256)
	for name, f := range map[string]func(){
		"DATA piece, reserved": func() { readPiece(t, body, ChunkSize) },
		"DATA piece, appended": func() {
			body.Buffer().Append(frames)
			mustNext(t, body)
		},
		"need more": func() { _, _ = body.Next() },
		"frame headers": func() {
			b = AppendFrameHeader(AppendGoAway(AppendSettings(b[:0], Settings{H3Datagram: true}), 4), FrameHeaders, 77)
		},
		"HEADERS and DATA frames": func() {
			d.Buffer().Append(frames[:1000])
			for range 3 {
				mustNext(t, d)
			}
		},
		"HEADERS over two chunks": func() {
			d.order = beforeHead // as at the start of a stream, without its allocation
			d.Buffer().Append(heads[:10])
			if _, err := d.Next(); err != ErrNeedMore {
				t.Fatal(err)
			}
			d.Buffer().Commit(copy(d.Buffer().Reserve(), heads[10:]))
			mustNext(t, d)
		},
		"AppendHeaders": func() { b = AppendHeaders(b[:0], heads) },
	} {
		t.Run(name, func(t *testing.T) {
			d = NewDecoder(ResponseStream, Limits{})
			d.Buffer().Append(transcript{}.headers("h").b)
			mustNext(t, d)
			if n := testing.AllocsPerRun(200, f); n != 0 {
				t.Errorf("%v allocs/op", n)
			}
		})
	}
}

// manyFrames are DATA frames of 98 bytes each, header included.
func manyFrames(n int) []byte {
	var s transcript
	for range n {
		s = s.data(string(make([]byte, 95)))
	}
	return s.b
}

func manyHeads(n int) []byte {
	var s transcript
	for range n {
		s = s.headers(string(AppendFieldSection(nil, RequestFields(exampleRequest))))
	}
	return s.b
}

// BenchmarkRequestHead is a whole request from fields to head: QPACK and rules.
func BenchmarkRequestHead(b *testing.B) {
	section := AppendFieldSection(nil, RequestFields(exampleRequest))
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fields, err := DecodeFieldSection(section, 0)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := ParseRequestFields(fields); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		var wire []byte
		b.ReportAllocs()
		for b.Loop() {
			wire = AppendFieldSection(wire[:0], RequestFields(exampleRequest))
		}
	})
}
