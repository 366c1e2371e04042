package tailfin

import "github.com/quic-go/quic-go"

// Flow control of a server's connections.
//
// What a handler has not read yet takes up credit of its stream and of the whole
// connection (RFC 9000 §4.1). Handlers wait for things before they read: for a file,
// for a connection to an upstream, for each other. If bodies that nobody reads take up
// all of the connection's credit, the one that is read gets no more bytes, and where
// the others wait for its end nothing ever moves again. So the connection's window has
// room for all the requests that it may carry at once, each with what its stream may
// hold before it is read:
//
//	requests × initial stream window ≤ ¾ × connection window
//
// ¾ since quic-go (v0.65.0) gives credit back when a quarter of the window was read.
// A stream's window grows beyond its initial size only while somebody reads it.
const (
	defaultStreamWindow = 512 << 10 // quic-go's, for a zero quic.Config.InitialStreamReceiveWindow
	wantedStreamWindow  = 64 << 10  // less would slow the first round trips of an upload
	leastStreamWindow   = 4 << 10   // for a connection's window that is the caller's
	mostServerWindow    = 128 << 20 // of a connection, whatever number of requests it may carry
)

// fitWindows chooses the windows of a server's connections, unless conf says what
// they begin with.
func fitWindows(conf *quic.Config) {
	if conf.InitialStreamReceiveWindow != 0 || conf.InitialConnectionReceiveWindow != 0 {
		return
	}
	requests := uint64(100) // quic-go's default
	if conf.MaxIncomingStreams > 0 {
		requests = uint64(conf.MaxIncomingStreams)
	}
	window, least := conf.MaxConnectionReceiveWindow, uint64(leastStreamWindow)
	if window == 0 {
		window, least = max(defaultWindow, min(requests*wantedStreamWindow/3*4, mostServerWindow)), wantedStreamWindow
	}
	stream := min(max(window/4*3/requests, least), defaultStreamWindow)
	if most := conf.MaxStreamReceiveWindow; most > 0 {
		stream = min(stream, most)
	}
	conf.InitialStreamReceiveWindow = stream
	conf.InitialConnectionReceiveWindow, conf.MaxConnectionReceiveWindow = window, window
}
