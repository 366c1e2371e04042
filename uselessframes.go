package tailfin

import (
	"sync/atomic"

	"github.com/quic-go/quic-go/qlog"
)

// uselessFrames tells of frames of QUIC that cost a server work and bring nothing. Their
// number is what RFC 9000 §21.9 asks to keep in proportion to what a peer brings.
//
// Honest peers send one PING a packet, by which a receiver of much has its ACKs
// acknowledged, and one word each about the credit of the connection. They send the same
// twice in a packet never, and change connection IDs now and then.
type uselessFrames struct {
	wasted atomic.Pointer[func(frames uint64)] // nil until the connection is served
}

// report has f told, on the run loop.
func (u *uselessFrames) report(f func(frames uint64)) { u.wasted.Store(&f) }

// packet looks at the frames of one.
func (u *uselessFrames) packet(frames []qlog.Frame) {
	var always, pings, credit, streams, empty uint64
	for _, f := range frames {
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			if f.Length == 0 && !f.Fin {
				empty++
			}
		case *qlog.NewConnectionIDFrame, *qlog.RetireConnectionIDFrame, *qlog.PathChallengeFrame:
			always++
		case *qlog.PingFrame:
			pings++
		case *qlog.MaxDataFrame, *qlog.DataBlockedFrame:
			credit++
		case *qlog.MaxStreamsFrame, *qlog.StreamsBlockedFrame:
			streams++
		}
	}
	const each, both = 1, 2 // PINGs; frames of two types, or of both kinds of streams
	n := always + empty + beyond(pings, each) + beyond(credit, both) + beyond(streams, 2*both)
	if n == 0 {
		return
	}
	if wasted := u.wasted.Load(); wasted != nil {
		(*wasted)(n)
	}
}

// beyond is how far n exceeds what is usual.
func beyond(n, usual uint64) uint64 { return max(n, usual) - usual }
