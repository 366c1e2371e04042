// Package h3frame is the wire of HTTP/3 (RFC 9114) without I/O: variable-length
// integers, frames, SETTINGS and GOAWAY, field sections in QPACK's static form
// (RFC 9204), the rules for message heads, and per stream a Buffer and a Decoder
// that lose no byte to a close.
//
// # Drain before close
//
// A stream's last bytes and the CONNECTION_CLOSE often arrive in one batch. The
// law of this package is that everything QUIC accepted is decoded and returned
// first, and that the end is reported after it, once and for all:
//
//	Buffer:  [ chunk ][ chunk ][ chunk ] ── FIN | close | (reset: no chunks)
//	            │
//	Decoder:    └→ frame, frame, DATA piece, DATA piece, frame ── error, error, …
//
// A close within a frame is a *TruncatedError, never H3_FRAME_ERROR: only a FIN
// there breaks the peer's word (RFC 9114 §7.1). A violation that was received
// before the close is reported instead of the close, which is its cause. A reset,
// unlike a close, discards what is buffered (RFC 9000 §3.2).
//
// # Layout of frames
//
// All integers are of variable length (RFC 9000 §16); the two upper bits of the
// first byte give it: 00 1 byte, 01 2, 10 4, 11 8.
//
//	frame         ┌──────────┬────────────┬─────────────────────┐
//	(§7.1)        │ Type (i) │ Length (i) │ Payload, Length B   │
//	              └──────────┴────────────┴─────────────────────┘
//	DATA     0x0  body bytes                                       returned in pieces, never copied
//	HEADERS  0x1  ┌─────────────────────┬────────────────────┐
//	              │ RIC 0 │ S 0, Base   │ field lines        │     returned whole, limited
//	              └─────────────────────┴────────────────────┘
//	SETTINGS 0x4  ┌────────┬───────────┬────────┬───────────┬┈
//	              │ ID (i) │ Value (i) │ ID (i) │ Value (i) │      returned whole, limited
//	              └────────┴───────────┴────────┴───────────┴┈
//	GOAWAY   0x7  │ ID (i) │                                       returned whole
//	unknown       anything                                         skipped, never held
//
//	request or response stream (§4.1):  [HEADERS 1xx]… HEADERS [DATA]… [HEADERS] FIN
//	control stream (§6.2.1):            Stream Type 0x0, SETTINGS, [GOAWAY | …]…
//
// # Use
//
// Feed the Decoder's Buffer as data comes, and call Next until it has no more:
//
//	dec := h3frame.NewDecoder(h3frame.RequestStream, h3frame.Limits{})
//	buf := dec.Buffer()
//	defer buf.Release()
//	for {
//		f, err := dec.Next()
//		if errors.Is(err, h3frame.ErrNeedMore) {
//			n, err := stream.Read(buf.Reserve())
//			buf.Commit(n) // before err: a read may return both
//			if err != nil {
//				buf.Finish(err) // or buf.Reset(err) for a RESET_STREAM
//			}
//			continue
//		}
//		if err != nil {
//			return err // io.EOF is a clean end
//		}
//		use(f) // f.Payload is valid until the next call of Next
//	}
//
// # Limits
//
// QPACK's dynamic table and server push are not supported, and never announced.
// Nothing in this package is safe for use by several goroutines at once, except
// functions, which share no state. A Decoder holds at most one field section or
// SETTINGS frame within its Limits besides what the caller put into the Buffer;
// chunks of the Buffer are pooled and given back as soon as they are read.
package h3frame
