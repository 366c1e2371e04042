package tailfin

import "sync/atomic"

// ServerStats counts what a Server did since it was made. Counts only grow.
type ServerStats struct {
	// EarlyRun is the number of requests that ran before their handshake was complete.
	EarlyRun uint64 `json:"early_run"`
	// EarlyHeld is the number of requests that waited for their handshake.
	EarlyHeld uint64 `json:"early_held"`
}

// Stats says what the server has done.
func (s *Server) Stats() ServerStats { return s.stats.snapshot() }

// serverCounters is the live form of ServerStats.
type serverCounters struct {
	earlyRun, earlyHeld atomic.Uint64
}

func (c *serverCounters) snapshot() ServerStats {
	return ServerStats{
		EarlyRun:  c.earlyRun.Load(),
		EarlyHeld: c.earlyHeld.Load(),
	}
}
