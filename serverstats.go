package tailfin

import "sync/atomic"

// ServerStats counts what a Server did since it was made. Counts only grow.
type ServerStats struct {
	// EarlyRun is the number of requests that ran before their handshake was complete.
	EarlyRun uint64 `json:"early_run"`
	// EarlyHeld is the number of requests that waited for their handshake.
	EarlyHeld uint64 `json:"early_held"`
	// DatagramsReceived is the number of HTTP datagrams that arrived for a request
	// at work; DatagramsDropped of them made room for later ones unread.
	DatagramsReceived uint64 `json:"datagrams_received"`
	DatagramsDropped  uint64 `json:"datagrams_dropped"`
	// DatagramsStray is the number of HTTP datagrams for no request at work.
	DatagramsStray uint64 `json:"datagrams_stray"`
	// DatagramsSent is the number of HTTP datagrams that handlers have sent.
	DatagramsSent uint64 `json:"datagrams_sent"`
}

// Stats says what the server has done.
func (s *Server) Stats() ServerStats { return s.stats.snapshot() }

// serverCounters is the live form of ServerStats.
type serverCounters struct {
	earlyRun, earlyHeld atomic.Uint64
	datagrams           datagramCounters
}

func (c *serverCounters) snapshot() ServerStats {
	return ServerStats{
		EarlyRun:          c.earlyRun.Load(),
		EarlyHeld:         c.earlyHeld.Load(),
		DatagramsReceived: c.datagrams.received.Load(),
		DatagramsDropped:  c.datagrams.dropped.Load(),
		DatagramsStray:    c.datagrams.strays.Load(),
		DatagramsSent:     c.datagrams.sent.Load(),
	}
}
