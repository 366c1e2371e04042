// Package h3frame is the wire of HTTP/3 without I/O: what comes between a QUIC
// stream and an HTTP message, for programs that bring their own QUIC. It has
//
//   - a Decoder of frames for each kind of stream, with the rules of which frame may
//     come where (RFC 9114 §7, RFC 9218 §7.2), and a MessageDecoder on top of it that
//     returns heads, content and trailers, each checked (§4);
//   - what encodes all of it: Append functions that add to a slice;
//   - SETTINGS, GOAWAY, pushes, priorities (RFC 9218), extended CONNECT (RFC 9220),
//     HTTP datagrams and a CapsuleDecoder (RFC 9297);
//   - the rules of unidirectional streams: UniStreams, and a QPACKStream for the
//     QPACK encoder and decoder streams (RFC 9204 §4.2);
//   - field sections in QPACK's static form, over quic-go/qpack.
//
// README.md has figures, and how the design differs from others.
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
//	PUSH_PROMISE  │ Push ID (i) │ field section as in HEADERS │    returned whole, limited
//	         0x5
//	PRIORITY_     │ ID (i) │ Priority Field Value │                returned whole, limited
//	UPDATE 0xf0700, 0xf0701
//	GOAWAY   0x7, CANCEL_PUSH 0x3, MAX_PUSH_ID 0xd
//	              │ ID (i) │                                       returned whole
//	unknown       anything                                         skipped, never held
//
//	request or response stream (§4.1):  [HEADERS 1xx]… HEADERS [DATA]… [HEADERS] FIN
//	  PUSH_PROMISE anywhere in a response; after a CONNECT (§4.4) only DATA
//	push stream (§4.6):                 Stream Type 0x1, Push ID, a response
//	control stream (§6.2.1):            Stream Type 0x0, SETTINGS, [GOAWAY | …]…
//	QPACK streams (RFC 9204 §4.2):      Stream Type 0x2 or 0x3, instructions
//	any other stream (§6.2.3):          Stream Type, anything: give it up or ignore it
//
// # Use
//
// Feed the decoder's Buffer as data comes, and call Next until it has no more:
//
//	dec := h3frame.NewRequestDecoder(h3frame.Limits{}) // or NewDecoder, for frames
//	buf := dec.Buffer()
//	defer buf.Release()
//	for {
//		ev, err := dec.Next()
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
//		use(ev) // ev.Body is valid until the next call of Next
//	}
//
// Errors that end the connection and those that end a stream are told apart by
// FrameError.ConnectionError; its Code is what to send.
//
// # Limits
//
// QPACK's dynamic table is not supported, and never announced: a Settings of the
// zero value announces none. Nothing in this package is safe for use by several
// goroutines at once, except functions, which share no state.
//
// A decoder holds at most one field section, SETTINGS or PRIORITY_UPDATE frame
// within its Limits, or one capsule, besides what the caller put into the Buffer;
// no declared length makes it allocate. Chunks of the Buffer are pooled and given
// back as soon as they are read. The Buffer itself takes all that it is given: stop
// reading the stream, so that QUIC's flow control holds the peer back, or look at
// Len. Input costs time in proportion to its bytes, however it is cut.
package h3frame
