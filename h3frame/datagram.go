package h3frame

import "fmt"

// streamIDsPerQuarter is the distance of two request stream IDs: datagrams carry
// a quarter of the ID (RFC 9297 §2.1).
const streamIDsPerQuarter = 4

// ParseDatagram takes the payload of a QUIC DATAGRAM frame (RFC 9221) apart into
// the request stream it belongs to and the HTTP datagram, which points into b.
// One that ends within the stream ID, or whose ID no stream can have, is an
// H3_DATAGRAM_ERROR, which ends the connection (RFC 9297 §2.1):
//
//	HTTP/3 datagram   ┌───────────────────────┬──────────────────────┐
//	(§2.1)            │ Quarter Stream ID (i) │ HTTP Datagram Payload │
//	                  └───────────────────────┴──────────────────────┘
func ParseDatagram(b []byte) (streamID uint64, payload []byte, err error) {
	quarter, n := ParseVarint(b)
	switch {
	case n == 0:
		return 0, nil, datagramError("datagram ends within its stream ID")
	case quarter > MaxRequestStreamID/streamIDsPerQuarter:
		return 0, nil, datagramError(fmt.Sprintf("datagram with quarter stream ID %d, above the last stream", quarter))
	}
	return quarter * streamIDsPerQuarter, b[n:], nil
}

// AppendDatagram appends the payload of a QUIC DATAGRAM frame: the HTTP datagram p
// for the request on the given stream, which is client-initiated and bidirectional.
// It may be sent once both sides have set Settings.H3Datagram.
func AppendDatagram(b []byte, streamID uint64, p []byte) []byte {
	return append(AppendVarint(b, streamID/streamIDsPerQuarter), p...)
}

func datagramError(reason string) error {
	return &FrameError{Code: ErrCodeDatagram, Reason: reason}
}
