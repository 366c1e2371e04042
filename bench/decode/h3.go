package decode

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/quic-go/quic-go/quicvarint"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// readVarints reads the type and the length of each frame, out of one slice, and skips
// its payload: what no reader of frames can do without.
func (t *transcript) readVarints(out *tally) error {
	for p := t.h3; len(p) > 0; {
		typ, n, err := quicvarint.Parse(p)
		if err != nil {
			return err
		}
		length, m, err := quicvarint.Parse(p[n:])
		if err != nil {
			return err
		}
		p = p[n+m:]
		out.piece(p[:length])
		out.end(h3frame.FrameType(typ))
		p = p[length:]
	}
	return nil
}

// readFrames has a Decoder for each stream, that is lent the chunks.
func (t *transcript) readFrames(out *tally) error {
	for i := range t.streams {
		if err := lend(&t.streams[i], t.streams[i].chunks, out); err != nil {
			return err
		}
	}
	return nil
}

// readWhole has one that is lent the whole stream at once.
func (t *transcript) readWhole(out *tally) error {
	for i := range t.streams {
		if err := lend(&t.streams[i], [][]byte{t.streams[i].wire}, out); err != nil {
			return err
		}
	}
	return nil
}

// lend has a Decoder read a stream in these chunks.
func lend(s *stream, chunks [][]byte, out *tally) error {
	dec := h3frame.NewDecoder(s.role, h3frame.Limits{})
	buf := dec.Buffer()
	defer buf.Release()
	for _, c := range chunks {
		buf.Append(c)
		if err := takeFrames(dec, out); !errors.Is(err, h3frame.ErrNeedMore) {
			return fmt.Errorf("within the stream: %w", err)
		}
	}
	buf.Finish(io.EOF)
	if err := takeFrames(dec, out); !errors.Is(err, io.EOF) {
		return err
	}
	out.units += int(dec.PassedOver())
	return nil
}

// takeFrames takes what there is out of a Decoder.
func takeFrames(dec *h3frame.Decoder, out *tally) error {
	for {
		f, err := dec.Next()
		if err != nil {
			return err
		}
		out.piece(f.Payload)
		if !f.More {
			out.end(f.Type)
		}
	}
}

// A feed puts a stream into a Buffer as a server does: a read copies what there is of
// the stream, a packet at most, into the Buffer's memory, and the last returns the FIN.
type feed struct{ chunks [][]byte }

func (f *feed) read(buf *h3frame.Buffer) {
	b := buf.Reserve()
	n := copy(b, f.chunks[0])
	buf.Commit(n)
	if f.chunks[0] = f.chunks[0][n:]; len(f.chunks[0]) > 0 {
		return
	}
	if f.chunks = f.chunks[1:]; len(f.chunks) == 0 {
		buf.Finish(io.EOF)
	}
}

// feeds has memory for the chunks of a stream, which a feed uses up.
type feeds struct{ chunks [][]byte }

func (m *feeds) of(s *stream) feed {
	m.chunks = append(m.chunks[:0], s.chunks...)
	return feed{m.chunks}
}

// readStreams has a Decoder for each stream, fed as a server does.
func (t *transcript) readStreams(out *tally) error {
	for i := range t.streams {
		s := &t.streams[i]
		dec, in := h3frame.NewDecoder(s.role, h3frame.Limits{}), t.feeds.of(s)
		for {
			err := takeFrames(dec, out)
			if errors.Is(err, h3frame.ErrNeedMore) { // first, as most often
				in.read(dec.Buffer())
				continue
			}
			if errors.Is(err, io.EOF) {
				break
			}
			return err
		}
		out.units += int(dec.PassedOver())
		dec.Buffer().Release()
	}
	return nil
}

// readMessages has a MessageDecoder for each stream, fed as a server does.
func (t *transcript) readMessages(out *tally) error {
	for i := range t.streams {
		s := &t.streams[i]
		dec := h3frame.NewRequestDecoder(h3frame.Limits{})
		if s.role == h3frame.ResponseStream {
			dec = h3frame.NewResponseDecoder(s.role, http.MethodGet, h3frame.Limits{})
		}
		in := t.feeds.of(s)
		for {
			ev, err := dec.Next()
			if errors.Is(err, h3frame.ErrNeedMore) {
				in.read(dec.Buffer())
				continue
			}
			if errors.Is(err, io.EOF) {
				break
			}
			switch {
			case err != nil:
				return err
			case ev.Kind == h3frame.EventBody:
				out.piece(ev.Body)
			default:
				out.event(&ev)
			}
		}
		dec.Buffer().Release()
	}
	return nil
}

// event notes a field section that came as an event.
func (t *tally) event(ev *h3frame.Event) {
	if t.digest == nil {
		t.units++
		return
	}
	switch {
	case ev.Request != nil:
		t.section(h3frame.RequestFields(*ev.Request))
	case ev.Response != nil:
		t.section(h3frame.ResponseFields(*ev.Response))
	default:
		t.section(h3frame.TrailerFields(ev.Trailer))
	}
}
