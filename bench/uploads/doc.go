// Package uploads measures what a small upload costs its receiver, all of it: QUIC,
// HTTP/3, the handler, storing, and the answer. Three receivers take short turns in
// an order that is drawn anew each round:
//
//   - stock: the server of quic-go/http3 on a plain *net.UDPConn;
//   - off: tailfin.Server on a udp.Conn, with DisableDrain;
//   - on: the same with the drain, which needs quic-go's tracer.
//
// All three run the same handler over the same kind of storage on the same file
// system, with the same quic.Config, certificate, garbage collector's goal and socket
// buffer, on one socket and one processor. What storing costs by itself is the same
// for all, and so the ratios come nearer to 1 the more of it there is: storage that
// throws bodies away shows what the protocol costs.
//
// The sender is quic-go/http3's client, the same for all, with a socket for each
// connection and some requests under way on each at any time: it sends the next when
// an answer is there. Receivers and senders are processes of their own, two for each
// kind, all receivers on one processor and all senders on another; those whose turn it
// is not are idle.
//
// The cost is the processor time (getrusage(2)) of the receiver's process from the
// first request of a turn to the last answer, by upload. Requests before the first turn
// warm the connections up.
package uploads
