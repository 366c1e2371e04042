// Package transfer measures what it costs to receive uploads over HTTP/3, end to
// end: QUIC, HTTP/3 and a handler that reads the bodies and throws them away. Three
// receivers take turns in an order that is drawn anew each round:
//
//   - stock: the server of quic-go/http3 on a plain *net.UDPConn;
//   - off: tailfin.Server on a udp.Conn, with DisableDrain: what reading by package
//     udp and framing by package h3frame make of it;
//   - on: the same with the drain, which needs quic-go's tracer.
//
// The sender is quic-go/http3's client on a plain socket, the same for all, with
// GSO as quic-go uses it (loopback keeps its trains together, as most networks do
// not). Receiver and sender are processes of their own, on a processor each.
//
// The cost is the processor time (getrusage(2)) of the receiver's process from the
// first byte of the measured uploads to the last, by 10^9 bytes of bodies. A run
// before them warms the connections up.
package transfer
