// Package peer has the HTTP/3 peers that tests and benchmarks run against and
// that are not built on quic-go: golang.org/x/net/quic as a server that
// answers and closes at once, and as a client that uploads and closes at once.
//
// A Burst is a peer whose last packets are made here: STREAM, FIN and
// CONNECTION_CLOSE in one packet or one batch, which no stack does to order, or
// packets of any frames in any order, lost and doubled as is asked for.
//
// It also starts foreign programs: ngtcp2's client and server, and Chromium.
// Where one is not installed the error is ErrNotInstalled.
//
// The Go peers do what RFC 9114 permits and no more than the race needs: one
// request a stream, no trailers, no QPACK dynamic table.
package peer

// Pattern returns n bytes where byte i is (i*7 + (i>>8)) & 255, the body of
// GET /bytes/n.
func Pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}
