// Package uploads measures what a small request costs its receiver, all of it: QUIC,
// HTTP/3, the handler, storing, and the answer. Run has it for uploads, which are
// stored, and Requests for requests with tiny bodies or none and tiny answers, whose
// handler does nothing else, so that the protocol is nearly all there is. Three
// receivers take short turns in an order that is drawn anew each round:
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
// an answer is there. So it offers less to a receiver that is slow, and the latencies
// are those under a load that each receiver sets for itself: a receiver that costs
// less is also asked more, and one that waits so that work gathers costs less by request
// and answers later. Cost, rate and latency are to be read together. It checks the bytes of Requests' answers, and the receivers
// count requests and the bytes of Requests' bodies: a run in which the two differ is
// invalid, and so is a receiver whose uploads are not all there in the end.
//
// Receivers and senders are processes of their own, two for each kind, all receivers on
// one processor and all senders on another; those whose turn it is not are idle, but
// for keeping their connections alive. Each path is one of package netlab.
//
// The cost is the processor time (getrusage(2)) of the receiver's process from the
// first request of a turn to the last answer, by request. Requests before the first turn
// warm the connections up.
package uploads
