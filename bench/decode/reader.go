package decode

import (
	"bytes"
	"fmt"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A reader decodes a transcript.
type reader struct {
	pass  func(*tally) error // decodes all of it once
	want  *tally             // what comes out then
	bytes int64              // of payloads, or of content and fields where those come out
}

// newReader makes the reader of a name for a transcript.
func newReader(name string, t *transcript) (*reader, error) {
	r := &reader{}
	var err error
	switch name {
	case Varint:
		r.pass, r.want = t.readVarints, t.wantFrames(true)
	case Frames:
		r.pass, r.want = t.readFrames, t.wantFrames(false)
	case Whole:
		r.pass, r.want = t.readWhole, t.wantFrames(false)
	case Stream:
		r.pass, r.want = t.readStreams, t.wantFrames(false)
	case Message:
		r.pass, r.want = t.readMessages, t.wantMessages()
	case HTTP2:
		r.pass = http2Reader(bytes.NewReader(t.h2), func(in *bytes.Reader) { in.Reset(t.h2) })
		r.want, err = t.wantHTTP2()
	case HTTP2Chunks:
		r.pass = http2Reader(&chunkReader{}, func(in *chunkReader) { *in = chunkReader{rest: t.h2} })
		r.want, err = t.wantHTTP2()
	case HTTP2Meta:
		r.pass, r.want = t.http2MetaReader(), t.wantMessages()
	case QPACK:
		r.pass, r.want = t.readQPACK, t.wantFields(true)
	case HPACK, HPACKTable:
		r.pass, r.want = t.hpackReader(name == HPACKTable), t.wantFields(true)
	case Fields:
		r.pass, r.want = t.readFields, t.wantFields(true)
	case Heads:
		r.pass, r.want = t.readHeads, t.wantFields(false)
	default:
		return nil, fmt.Errorf("no reader %q", name)
	}
	if err != nil {
		return nil, err
	}
	switch r.bytes = r.want.bytes; name {
	case Message, HTTP2Meta, Heads:
		r.bytes = t.content()
	}
	return r, nil
}

// content is the bytes of content and of fields' names and values.
func (t *transcript) content() (bytes int64) {
	for _, s := range t.streams {
		for _, u := range s.units {
			if u.typ == h3frame.FrameData {
				bytes += int64(len(u.payload))
			}
			for _, f := range u.fields {
				bytes += int64(len(f.Name) + len(f.Value))
			}
		}
	}
	return bytes
}

// wantFrames is what a reader of frames gives: all, and the payloads of those that are
// known, or of all.
func (t *transcript) wantFrames(unknown bool) *tally {
	want := digesting()
	for _, s := range t.streams {
		for _, u := range s.units {
			switch {
			case known(u.typ) || unknown:
				want.piece(u.payload)
				want.end(u.typ)
			default:
				want.units++
			}
		}
	}
	return want
}

// wantMessages is what a reader of messages gives: heads and trailers, whose bytes are
// not counted, since net/http's form of them is not that of the wire, and content.
func (t *transcript) wantMessages() *tally {
	want := digesting()
	for _, s := range t.streams {
		for _, u := range s.units {
			switch u.typ {
			case h3frame.FrameHeaders:
				want.section(u.fields)
			case h3frame.FrameData:
				want.piece(u.payload)
			}
		}
	}
	return want
}

// wantFields is what a reader of field sections gives: their fields, and the bytes of
// those if they are counted.
func (t *transcript) wantFields(bytes bool) *tally {
	want := digesting()
	for _, s := range t.streams {
		for _, u := range s.units {
			if !bytes {
				want.section(u.fields)
				continue
			}
			want.units++
			for _, f := range u.fields {
				want.field(f.Name, f.Value)
			}
		}
	}
	return want
}

// section notes a field section, whose bytes are not counted.
func (t *tally) section(fields []h3frame.Field) {
	t.units++
	if t.digest != nil {
		for _, f := range fields {
			t.digested(f.Name, f.Value)
		}
	}
}

func known(typ h3frame.FrameType) bool {
	return typ == h3frame.FrameData || typ == h3frame.FrameHeaders
}
