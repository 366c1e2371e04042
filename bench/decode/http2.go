package decode

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// hpackTable is the dynamic table that HTTP/2 has by default (RFC 9113 §6.5.2), in bytes.
const hpackTable = 4096

// unknownHTTP2 is a type of frame that HTTP/2 has none of either.
const unknownHTTP2 = 0x21

// appendHTTP2 writes the frames of the streams as one HTTP/2 connection has them, field
// sections in HPACK with the dynamic table. Its frames end where those of HTTP/3 do.
func appendHTTP2(streams []stream) ([]byte, error) {
	var wire, block bytes.Buffer
	fr := http2.NewFramer(&wire, nil)
	enc := hpack.NewEncoder(&block)
	id := uint32(1)
	for _, s := range streams {
		for i, u := range s.units {
			end := i == len(s.units)-1
			var err error
			switch u.typ {
			case h3frame.FrameHeaders:
				block.Reset()
				if err = encodeHPACK(enc, u.fields); err == nil {
					err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
				}
			case h3frame.FrameData:
				err = fr.WriteData(id, end, u.payload)
			default:
				err = fr.WriteRawFrame(unknownHTTP2, 0, id, u.payload)
			}
			if err != nil {
				return nil, err
			}
		}
		id += 2
	}
	return wire.Bytes(), nil
}

func encodeHPACK(enc *hpack.Encoder, fields []h3frame.Field) error {
	var errs []error
	for _, f := range fields {
		errs = append(errs, enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}))
	}
	return errors.Join(errs...)
}

// wantHTTP2 is what a Framer gives: payloads as they are on the wire of HTTP/2, found
// by their headers of nine bytes.
func (t *transcript) wantHTTP2() (*tally, error) {
	const headerLen, typeAt = 9, 3
	want := digesting()
	for p := t.h2; len(p) > 0; {
		if len(p) < headerLen {
			return nil, io.ErrUnexpectedEOF
		}
		n := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		if typ := p[typeAt]; typ == unknownHTTP2 {
			want.units++
		} else {
			want.piece(p[headerLen : headerLen+n])
			want.end(h3frame.FrameType(typ))
		}
		p = p[headerLen+n:]
	}
	if want.units != t.frames {
		return nil, fmt.Errorf("%d frames in HTTP/2, of %d", want.units, t.frames)
	}
	return want, nil
}

// http2Reader is a Framer that reads all frames out of in, and is kept for all passes.
func http2Reader[R io.Reader](in R, reset func(R)) func(*tally) error {
	fr := http2.NewFramer(nil, in)
	fr.SetReuseFrames()
	return func(out *tally) error {
		reset(in)
		return readHTTP2(fr, out)
	}
}

// A chunkReader returns a chunk at most, as a read from a connection may.
type chunkReader struct{ now, rest []byte }

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.now) == 0 {
		if len(r.rest) == 0 {
			return 0, io.EOF
		}
		n := min(chunk, len(r.rest))
		r.now, r.rest = r.rest[:n], r.rest[n:]
	}
	n := copy(p, r.now)
	r.now = r.now[n:]
	return n, nil
}

// http2MetaReader is one that decodes field sections. Each pass is a connection with
// an HPACK table that is empty at first.
func (t *transcript) http2MetaReader() func(*tally) error {
	in := bytes.NewReader(t.h2)
	fr := http2.NewFramer(nil, in)
	fr.SetReuseFrames()
	return func(out *tally) error {
		in.Reset(t.h2)
		fr.ReadMetaHeaders = hpack.NewDecoder(hpackTable, nil)
		return readHTTP2(fr, out)
	}
}

func readHTTP2(fr *http2.Framer, out *tally) error {
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			out.piece(f.Data())
			if fr.ReadMetaHeaders == nil { // else it reads messages
				out.end(h3frame.FrameType(http2.FrameData))
			}
		case *http2.HeadersFrame:
			out.piece(f.HeaderBlockFragment())
			out.end(h3frame.FrameType(http2.FrameHeaders))
		case *http2.MetaHeadersFrame:
			out.units++
			if out.digest != nil {
				for _, field := range f.Fields {
					out.digested(field.Name, field.Value)
				}
			}
		default:
			if fr.ReadMetaHeaders == nil {
				out.units++
			}
		}
	}
}
