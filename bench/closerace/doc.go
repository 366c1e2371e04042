// Package closerace counts what is lost when a peer sends its last bytes, FIN and
// CONNECTION_CLOSE back to back: by Tailfin with the drain and without, by
// quic-go/http3 and by golang.org/x/net/quic, under the same sender.
//
// There are three benches. Demo is the close race between real stacks, for `tailfin
// demo`. Matrix is our two ends against every shape of message and every kind of close.
// A Bench compares receivers over sizes, delays between FIN and close, and delays of the
// reader, for `tailfin bench closerace`:
//
//	receiver process (GOMAXPROCS as asked)      sender process
//	on | off | stock | xnet  ◀── handshake ──▶  burst | xnet | quic-go | tailfin
//	                         ◀── FIN … CLOSE ──
//
// Each message is the only one of its connection, and has a number and bytes of its own,
// which are compared. It is in one of four classes:
//
//	whole         the application has every byte
//	lost          QUIC had every byte before the close, the application has not
//	not received  QUIC had not every byte before the close: dropped, or overtaken
//	unsent        there was no connection, or nothing was sent on it
//
// What QUIC had is told by the qlog of the receiver's own stack (quic.Config.Tracer, and
// QLogLogger of x/net/quic), which all receivers therefore carry alike, and which names
// the stream frames of each packet in the order in which they were handled, until the
// close. What the receiver's socket had no room for (/proc/net/udp) is counted beside it.
//
// All receivers have the same receive buffer, flow-control windows and idle timeout; the
// windows are larger than a message, since a burst heeds none. The pause of a slow reader
// is between the header section and the first read of the body. http3's server and ours
// are given what their stacks give a handler, and x/net/quic what a program gets that
// reads its streams to the end whether or not the connection lives. The messages are the
// same for each receiver in a round, and the order of receivers is drawn anew.
//
// A cell without delay in which no receiver lost anything without the drain proves nothing
// for the drain, and its rows are invalid; so are those of a receiver to which the path
// did not bring nine of ten messages.
package closerace
