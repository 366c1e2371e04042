// Package idle measures what a connection costs that nobody uses: memory, goroutines
// and processor time in the receiver. The receivers are those of package servers and
// take turns in an order that is drawn anew each round, each in a process that is
// started for the turn.
//
// A turn is
//
//   - 64 connections with a request each, which stay, so that what a process makes but
//     once, and what grows a little at first, counts for nobody;
//   - the memory of the receiver's process, after two garbage collections and after
//     what is free was given back to the system;
//   - so many connections more with a GET each, from quic-go/http3's client, some
//     thousands to a socket;
//   - once these have rested, the processor time (getrusage(2)) of the receiver's
//     process for a while of idling, by connection and second;
//   - the memory again. The difference is reported by connection: live objects of the
//     heap, stacks of goroutines, the sum of both, and resident memory
//     (smaps_rollup), which has in it also what the heap holds without using it and
//     what is not Go's, such as rings of io_uring. The kernel's memory is not in it;
//   - a request on every connection: one that has died makes the figures worth nothing,
//     and the bench fails.
//
// Both sides have an idle timeout of an hour, so that a connection lives without
// anything to keep it alive, and no limit of connections. All else is the receivers'
// default. With KeepAlive the client sends a PING in that interval, which the receiver
// acknowledges; without it nothing is sent.
package idle
