// Package transfer measures what it costs to receive bodies over HTTP/3, end to end:
// QUIC, HTTP/3, and what reads the bodies and throws them away.
//
// # Who takes turns
//
// The receivers are those of package servers, or for downloads the clients of the same
// kinds: stock, of quic-go/http3 on plain sockets, and ours, with the drain off and on.
// In each round every receiver has a turn with each number of connections and of
// sockets, in an order that is drawn anew, so that a ratio is always of two turns of one
// round: to stock, to the drain off, and of a receiver with many connections to itself
// with one. Each turn has processes of its own, pinned to a processor each unless it is
// said that they are not. All receivers have the same handler, certificate, windows of
// flow control, socket buffers and garbage collector's goal.
//
// The sender is quic-go/http3 on plain sockets, the same for all, with GSO as quic-go
// uses it, a socket for each connection of an upload; or our own Transport, which writes
// bodies in pieces of 32 kB instead of 8 and so makes longer trains, for less of its own
// processor time; or ngtcp2's client, which sends a
// datagram at a time (version 0.12.1), or its server, which sends trains: they show
// whether the ratios are of quic-go's sender only. ngtcp2's server is also a
// receiver: one thread of C, whose bodies are accounted for by its answers. iperf3 says
// what TCP does on the same path, in two seconds.
//
// # What a turn is
//
// Connections are made, 16 at a time, and each is used a little without being measured,
// so that its windows have begun to open. Then come the measured bodies, one on
// each connection, all at once, of equal size.
//
// The cost is the processor time (getrusage(2); schedstat for ngtcp2's server) of the
// receiver's process, from before the first of the measured bodies to the end of the
// last, by 10^9 bytes of bodies. The goodput is that of the same bodies. Bodies that did
// not arrive whole make the figures wrong: the bench fails.
//
// The utilization of receiver and sender is the processor time of each by the time that
// passed: near 1, with a processor each, it was what held the transfer up. Where the
// receiver is not, its goodput is not its own.
//
// Allocations are by packets that the connections have received, as quic-go counts
// them, which is by datagrams but for the few of a handshake; for downloads by 1200
// bytes of body. A row says which.
//
// # The receiver as the bottleneck
//
// quic-go/http3's client costs about as much as its server, and so either may be the
// limit. For the goodput of receivers the sender is our Transport, the same for all, which
// costs less, and the receiver has half a processor: beside it there is a process
// that never rests (with two of them the kernel gives it a third), and the
// sender has all of another processor. Each of these processes has a session of its own, so that the
// kernel shares by process and not by thread (sched_autogroup). This needs no rights and no
// control group, and does not stop the receiver for the rest of each period, as a quota
// does. While it waits for its turn a peer may have only so much under way: all receivers
// begin with the windows of flow control that quic-go's grow to at most, so that these are
// not the limit.
//
// That the receiver was the limit shows in what its neighbours got: about what it got. A
// row of quic-go's receiver that had less than 95 % of that, or of any that had more than
// 110 %, says so and has no ratios. A receiver of ours that had less was not the limit
// itself, so that its ratio is the least that it would reach.
//
// # Latency
//
// Small requests (a GET, 100 bytes of answer) are made at a fixed rate beside an upload,
// on its connection or on another of the same process. Each is made when it is due,
// whether or not those before it are answered, and its latency is from when it was due
// to the end of its answer: a stall counts for all that were due in it (no coordinated
// omission). The upload goes as fast as it can, which is not the same load for all, or
// is offered at a rate, the same for all; a row where it did not keep that rate is not
// valid. The latency is the client's too, which is the same for all.
//
// # Several sockets
//
// With several sockets nothing is pinned, a utilization may be more than 1, and the
// cost is what the receiver uses of all processors, which it shares with the sender.
//
// # Downloads
//
// Each connection is a client of its own, with a socket of its own.
package transfer
