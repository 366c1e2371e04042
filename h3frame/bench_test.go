package h3frame

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
)

// A benchUnit is one frame of the transcript that the framers are compared with.
type benchUnit struct {
	typ  FrameType
	size int
}

// benchTranscript is a stream as long-lived ones look, for two hundred frames: a
// head, body frames from one byte to what a packet holds and some larger ones,
// now and then an unknown frame, and a trailer section.
func benchTranscript() []benchUnit {
	units := []benchUnit{{FrameHeaders, 58}}
	for i, sizes := 0, []int{1, 17, 63, 64, 200, 900, 1200, 1200, 4096, 16384}; i < 195; i++ {
		if i%40 == 39 {
			units = append(units, benchUnit{FrameType(Grease(uint64(i))), 12})
		}
		units = append(units, benchUnit{FrameData, sizes[(i*7)%len(sizes)]})
	}
	return append(units, benchUnit{FrameHeaders, 31})
}

// appendH3 writes the transcript as HTTP/3 does.
func appendH3(units []benchUnit) []byte {
	var b []byte
	for _, u := range units {
		b = append(AppendFrameHeader(b, u.typ, uint64(u.size)), make([]byte, u.size)...)
	}
	return b
}

// appendH2 writes it as HTTP/2 does: the unknown frames have a type that HTTP/2
// does not know either. Its frame headers are 9 bytes each, with less to parse.
func appendH2(t testing.TB, units []benchUnit) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	for i, u := range units {
		var err error
		switch u.typ {
		case FrameHeaders:
			err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, u.size), EndHeaders: true, EndStream: i == len(units)-1})
		case FrameData:
			err = fr.WriteData(1, false, make([]byte, u.size))
		default:
			err = fr.WriteRawFrame(0x21, 0, 1, make([]byte, u.size))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// reportFrames gives the time for one frame beside that of one transcript.
func reportFrames(b *testing.B, frames int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(frames), "ns/frame")
}

// BenchmarkTranscript decodes one transcript in several ways:
//
//   - floor: what cannot be left out, the two integers of each frame, by
//     quicvarint over one slice;
//   - decoder: a Decoder, the transcript appended by reference, as one chunk or in
//     chunks of 1252 bytes as packets bring them;
//   - http2: the Framer of x/net/http2, which is what people know, from memory and
//     with SetReuseFrames. It copies payloads, as it must, and so has a floor of
//     its own: frames=small has nothing but short frames, where copying is free.
func BenchmarkTranscript(b *testing.B) {
	small := make([]benchUnit, 200)
	for i := range small {
		small[i] = benchUnit{FrameData, 1 + i%60}
	}
	small[0].typ = FrameHeaders
	for name, units := range map[string][]benchUnit{"mixed": benchTranscript(), "small": small} {
		h3, h2 := appendH3(units), appendH2(b, units)
		b.Run("frames="+name+"/by=floor", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n, err := parseFloor(h3)
				if n != len(units) || err != nil {
					b.Fatal(n, err)
				}
			}
			reportFrames(b, len(units))
		})
		for _, chunk := range []int{len(h3), 1252} {
			how := "decoder"
			if chunk < len(h3) {
				how = fmt.Sprintf("decoder-chunks-of-%d", chunk)
			}
			b.Run("frames="+name+"/by="+how, func(b *testing.B) {
				d := NewDecoder(ResponseStream, Limits{})
				b.ReportAllocs()
				for b.Loop() {
					d.order = beforeHead // as at the start of a stream, without its allocation
					decodeIn(b, d, h3, chunk)
				}
				reportFrames(b, len(units))
			})
		}
		b.Run("frames="+name+"/by=http2", func(b *testing.B) {
			r := bytes.NewReader(h2)
			fr := http2.NewFramer(nil, r)
			fr.SetReuseFrames()
			fr.SetMaxReadFrameSize(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(h2)
				n := 0
				for ; ; n++ {
					if _, err := fr.ReadFrame(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				if n != len(units) {
					b.Fatal(n)
				}
			}
			reportFrames(b, len(units))
		})
	}
}

// decodeIn feeds a decoder in chunks, and takes everything out after each.
func decodeIn(b *testing.B, d *Decoder, in []byte, chunk int) {
	for len(in) > 0 {
		n := min(chunk, len(in))
		d.Buffer().Append(in[:n])
		in = in[n:]
		for {
			if _, err := d.Next(); err == ErrNeedMore {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// parseFloor reads type and length of every frame, and counts them.
func parseFloor(p []byte) (frames int, err error) {
	for len(p) > 0 {
		_, n, err := quicvarint.Parse(p)
		if err != nil {
			return frames, err
		}
		length, m, err := quicvarint.Parse(p[n:])
		if err != nil {
			return frames, err
		}
		p = p[uint64(n+m)+length:]
		frames++
	}
	return frames, nil
}

// endlessBody is a decoder within a DATA frame that does not end.
func endlessBody(t testing.TB) *Decoder {
	t.Helper()
	d := NewDecoder(ResponseStream, Limits{})
	d.Buffer().Append(transcript{}.headers("h").head(FrameData, MaxVarint).b)
	mustNext(t, d)
	return d
}

// readPiece does what a reader of a body does for one chunk of n bytes.
func readPiece(t testing.TB, d *Decoder, n int) {
	b := d.Buffer()
	b.Commit(min(n, len(b.Reserve())))
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkDataPieces hands on the body of one endless DATA frame, read into the
// Buffer's memory or borrowed by it. Nothing is copied, and nothing looks at the
// bytes: it says that there is no cost per byte, not how fast a body can be read.
func BenchmarkDataPieces(b *testing.B) {
	for _, size := range []int{1200, ChunkSize} {
		b.Run(fmt.Sprintf("by=reserve/piece=%d", size), func(b *testing.B) {
			d := endlessBody(b)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				readPiece(b, d, size)
			}
		})
		b.Run(fmt.Sprintf("by=append/piece=%d", size), func(b *testing.B) {
			d, p := endlessBody(b), make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				d.Buffer().Append(p)
				if f, err := d.Next(); err != nil || len(f.Payload) != size {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeaders frames and decodes the frame of a head, without QPACK.
func BenchmarkHeaders(b *testing.B) {
	section := AppendFieldSection(nil, RequestFields(exampleRequest))
	d := NewDecoder(ResponseStream, Limits{})
	var wire []byte
	b.ReportAllocs()
	for b.Loop() {
		wire = AppendHeaders(wire[:0], section)
		d.order = beforeHead
		d.Buffer().Append(wire)
		if _, err := d.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostile is input that is as dear as a peer can make it. Its time a byte
// must not grow with the length: compare the sizes.
func BenchmarkHostile(b *testing.B) {
	repeat := func(unit []byte, size int) []byte { return bytes.Repeat(unit, size/len(unit)) }
	for name, stream := range map[string]func(size int) []byte{
		"empty-DATA":   func(size int) []byte { return repeat(AppendData(nil, nil), size) },
		"grease":       func(size int) []byte { return repeat(AppendFrameHeader(nil, FrameType(Grease(1<<50)), 0), size) },
		"huge-lengths": func(size int) []byte { return append(AppendFrameHeader(nil, 0x21, MaxVarint), make([]byte, size)...) },
		"HEADERS":      func(size int) []byte { return AppendHeaders(nil, make([]byte, size)) },
	} {
		for _, chunk := range []int{1, 4096} {
			for _, size := range []int{1 << 12, 1 << 15, 1 << 18} {
				in := append(AppendHeaders(nil, []byte("h")), stream(size)...)
				b.Run(fmt.Sprintf("stream=%s/chunk=%d/size=%d", name, chunk, size), func(b *testing.B) {
					for b.Loop() {
						d := NewDecoder(RequestStream, Limits{MaxFieldSectionSize: 1 << 20})
						decodeIn(b, d, in, chunk)
						d.Buffer().Release()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(in)), "ns/byte")
				})
			}
		}
	}
}
