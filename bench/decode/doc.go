// Package decode measures what it costs to decode HTTP/3 that is in memory already:
// frames, messages and field sections, without a socket, QUIC or a handler. What the
// whole costs is for the scenarios of packages uploads and transfer.
//
// A transcript is made of a seed: streams of frames, cut into chunks as packets bring
// them. Those of frames are read by
//
//   - varint, the floor: the two integers of each frame are read by quic-go's
//     quicvarint, out of one slice that has all, and nothing else is done;
//   - http2: the Framer of golang.org/x/net/http2 reads the same frames as HTTP/2 has
//     them on one connection, with SetReuseFrames;
//   - http2-chunks: the same in reads of a chunk at most;
//   - h3frame-whole: a Decoder for each stream, which is lent it whole, as http2 has it;
//   - h3frame: one that is lent the chunks;
//   - h3frame-stream: one that is fed as tailfin.Server feeds it: each chunk is copied into
//     the Buffer's memory, as a read from QUIC does, and the last brings the FIN;
//   - http2-meta: http2 with ReadMetaHeaders, so that heads and trailers are decoded,
//     and some of their rules checked;
//   - h3frame-message: a MessageDecoder for each stream, fed as in h3frame-stream. It is
//     all that tailfin.Server does to a request stream before the handler: heads
//     are decoded, checked and made into an http.Header, and content is counted.
//
// and those of field sections by
//
//   - qpack: quic-go/qpack alone, which h3frame uses; no field is kept;
//   - hpack, hpack-table: golang.org/x/net/http2/hpack, no field is kept either; without a
//     dynamic table, as QPACK is used here, and with one as HTTP/2 has by default, where
//     what was there before is an index;
//   - h3frame-fields: DecodeFieldSection, which returns a slice of fields;
//   - h3frame-head: that and ParseRequestFields or ParseResponseFields, which check the
//     fields and make an http.Header.
//
// What quic-go/http3 parses frames with is not exported, and so is measured only as part
// of a server, in package uploads.
//
// Whom it flatters:
//
//   - All: transcript and code stay in the processor's caches, and there is no
//     read from a socket and no wakeup.
//   - h3frame and varint, where there is much content: it is passed on by reference and
//     nothing looks at it, so that a frame costs the same whatever its size, and gbit_s says
//     how little is done and not how fast anything can be read. h3frame-stream copies once,
//     as http2 does.
//   - varint: it is not given chunks, in which a header may be cut, checks nothing,
//     and knows no streams.
//   - http2: it reads out of one slice too, without the cuts that records of TLS make, so
//     that a large frame is one copy where h3frame has a piece for each chunk; one
//     Framer is kept for ever, where h3frame has a Decoder for each stream, which is most
//     of what a stream of one frame costs; and the dynamic table makes its heads
//     shorter. That its frames have headers of nine bytes with fixed places is HTTP/2's
//     merit. It checks less than a Decoder, which knows what frame may come where.
//   - hpack and qpack: what they decode is dropped at once.
//
// Each reader has a process of its own, and a turn in each round, in an order that is
// drawn; all are on one processor if they are pinned, and those whose turn it is not
// wait. The cost is the processor time of the process (getrusage(2)), with its garbage
// collector's, by frame or by section. Before and after each turn a pass is made in which
// all that comes out is held against what went in, by digest; in those that are measured
// frames and bytes are counted and held against it. What differs ends the whole.
package decode
