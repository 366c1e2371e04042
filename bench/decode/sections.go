package decode

import (
	"bytes"
	"errors"
	"io"

	"github.com/quic-go/qpack"
	"golang.org/x/net/http2/hpack"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// readFields decodes each section to fields.
func (t *transcript) readFields(out *tally) error {
	for i := range t.streams {
		fields, err := h3frame.DecodeFieldSection(t.streams[i].units[0].payload, 0)
		if err != nil {
			return err
		}
		out.units++
		for _, f := range fields {
			out.field(f.Name, f.Value)
		}
	}
	return nil
}

// readHeads decodes each section to a head, which checks the fields.
func (t *transcript) readHeads(out *tally) error {
	for i := range t.streams {
		s := &t.streams[i]
		fields, err := h3frame.DecodeFieldSection(s.units[0].payload, 0)
		if err != nil {
			return err
		}
		var ev h3frame.Event
		if s.role == h3frame.RequestStream {
			head, err := h3frame.ParseRequestFields(fields)
			if err != nil {
				return err
			}
			ev.Request = &head
		} else {
			head, err := h3frame.ParseResponseFields(fields)
			if err != nil {
				return err
			}
			ev.Response = &head
		}
		out.event(&ev)
	}
	return nil
}

// readQPACK has what h3frame decodes sections with, alone: no field is kept.
func (t *transcript) readQPACK(out *tally) error {
	dec := qpack.NewDecoder()
	for i := range t.streams {
		next := dec.Decode(t.streams[i].units[0].payload)
		for {
			f, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			out.field(f.Name, f.Value)
		}
		out.units++
	}
	return nil
}

// hpackReader decodes the same fields as HPACK has them. No field is kept, and each pass
// is a connection, with a dynamic table that is empty at first, or none.
func (t *transcript) hpackReader(table bool) func(*tally) error {
	var blocks [][]byte
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	if !table {
		enc.SetMaxDynamicTableSizeLimit(0)
	}
	for _, s := range t.streams {
		block.Reset()
		_ = encodeHPACK(enc, s.units[0].fields) // a Buffer takes all
		blocks = append(blocks, bytes.Clone(block.Bytes()))
	}
	return func(out *tally) error {
		dec := hpack.NewDecoder(hpackTable, func(f hpack.HeaderField) { out.field(f.Name, f.Value) })
		for _, b := range blocks {
			if _, err := dec.Write(b); err != nil {
				return err
			}
			if err := dec.Close(); err != nil {
				return err
			}
			out.units++
		}
		return nil
	}
}
