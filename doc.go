// Package tailfin serves and fetches HTTP/3 without losing what was received.
//
// An HTTP/3 peer may send its last bytes and close the connection in the same
// instant: a server that is being replaced answers with H3_NO_ERROR behind the
// body (RFC 9114 §5.2), a client reports and leaves. The kernel then hands
// over STREAM frames and CONNECTION_CLOSE together, and quic-go (v0.65.0)
// drops what it has received and nobody has read yet. This package puts a
// drain barrier under an unmodified quic-go: at a CONNECTION_CLOSE every
// stream is read empty first, also those that nobody has accepted, and the
// error of the close comes after the last byte.
//
// Server is for an http.Handler, Transport is an http.RoundTripper. Both read
// datagrams through package udp, and so through io_uring where the kernel
// permits it. To use the datagram path alone, give a udp.Conn to a
// quic.Transport of your own.
//
// # Servers
//
// A Server keeps the promises of net/http to its handlers, deadlines, full duplex,
// interim responses and trailers included, and bounds what a client can cost it:
// connections, requests at once, requests that are reset or malformed, frames
// without use, and the time that heads, bodies, whole requests and idle connections
// take. Each bound has a field, a count in ServerStats and a log line. Beyond
// net/http it has extended CONNECT (RFC 9220), HTTP datagrams (RFC 9297, DatagramsOf)
// and early data (RFC 8470), which runs before the handshake is complete only where
// a replay does no harm.
//
// # Sending requests
//
// Transport is for HTTP/3 alone, and does for it what http.Transport does for
// the versions before. Fallback puts HTTP/2 and HTTP/1.1 beside it, and knows
// from Alt-Svc and from failures which authority speaks what. Every error says
// how far the request had come (Progress), and OutcomeOf says what follows from
// it: whether it is safe to send the request again, whether HTTP/3 should be
// given up with the authority for a while, and what a circuit breaker should
// make of it. OutcomeTable has all of it in one place.
//
// # What cannot be saved
//
// The barrier saves what QUIC has received and put in order. Two ends come without
// a packet to drain on, and are seen coming instead: an idle timeout by the silence
// before it, and a stateless reset (RFC 9000 §10.3) by the datagram, which is kept
// back for some 20 ms if the socket is a udp.Conn. Not saved are:
//
//   - packets that are lost or arrive behind the CONNECTION_CLOSE, which RFC 9000
//     §10.2 lets a peer leave unsent, and bytes behind a gap in their stream;
//   - what is unread when the connection is closed from our side, by a call or since
//     the peer broke QUIC: quic-go decides that on its run loop without a word before;
//   - what is unread on a stream that nobody has accepted when a connection ends by
//     an idle timeout or a stateless reset. Server and Transport accept at once.
package tailfin
