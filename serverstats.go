package tailfin

import "sync/atomic"

// ServerStats says what a Server did since it was made. Counts only grow; the
// gauges say so.
type ServerStats struct {
	// ConnsOpen is a gauge: the number of open connections.
	ConnsOpen int `json:"conns_open"`
	// Conns is the number of connections that were served.
	Conns uint64 `json:"conns"`
	// ConnsRefused and ConnsRefusedPerAddr are the numbers of connections refused
	// for MaxConns and for MaxConnsPerAddr.
	ConnsRefused        uint64 `json:"conns_refused"`
	ConnsRefusedPerAddr uint64 `json:"conns_refused_per_addr"`

	// HandshakesActive is a gauge: the number of handshakes under way.
	HandshakesActive int `json:"handshakes_active"`
	// HandshakesFailed is the number of handshakes that ended before they were complete,
	// most of them in silence; HandshakesRefused that of connections refused for
	// MaxHandshakes, and Retries that of Initial packets answered by a Retry for it.
	HandshakesFailed  uint64 `json:"handshakes_failed"`
	HandshakesRefused uint64 `json:"handshakes_refused"`
	Retries           uint64 `json:"retries"`
	// PacketsDropped is the number of packets that had the connection ID of a connection
	// and were dropped: not authentic, duplicates, too late, or too many at once.
	PacketsDropped uint64 `json:"packets_dropped"`

	// RequestsActive is a gauge: the number of requests at work.
	RequestsActive int64 `json:"requests_active"`
	// Requests is the number of request streams that were opened.
	Requests uint64 `json:"requests"`
	// RequestsAnswered is the number of requests whose answer was sent to its end.
	RequestsAnswered uint64 `json:"requests_answered"`
	// RequestsRejected is the number of requests refused after GOAWAY.
	RequestsRejected uint64 `json:"requests_rejected"`
	// RequestsReset is the number of requests that clients reset unanswered.
	RequestsReset uint64 `json:"requests_reset"`
	// RequestsMalformed is the number of requests whose head broke the rules.
	RequestsMalformed uint64 `json:"requests_malformed"`
	// HeadersTooLarge is the number of requests above MaxHeaderBytes.
	HeadersTooLarge uint64 `json:"headers_too_large"`
	// Panics is the number of handlers that panicked, but for http.ErrAbortHandler.
	Panics uint64 `json:"panics"`

	// HeadTimeouts, BodyTimeouts and RequestTimeouts are the numbers of requests
	// ended for ReadHeaderTimeout, BodyIdleTimeout and RequestTimeout.
	HeadTimeouts    uint64 `json:"head_timeouts"`
	BodyTimeouts    uint64 `json:"body_timeouts"`
	RequestTimeouts uint64 `json:"request_timeouts"`
	// IdleTimeouts is the number of connections closed for IdleTimeout.
	IdleTimeouts uint64 `json:"idle_timeouts"`

	// RapidResets and FrameFloods are the numbers of connections closed for
	// MaxResets and for MaxUselessFrames.
	RapidResets uint64 `json:"rapid_resets"`
	FrameFloods uint64 `json:"frame_floods"`

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
func (s *Server) Stats() ServerStats {
	c := &s.stats
	return ServerStats{
		ConnsOpen:           s.limits.open(),
		Conns:               c.conns.Load(),
		ConnsRefused:        c.connsRefused.Load(),
		ConnsRefusedPerAddr: c.connsRefusedPerAddr.Load(),
		HandshakesActive:    s.handshakes.active(),
		HandshakesFailed:    c.handshakesFailed.Load(),
		HandshakesRefused:   c.handshakesRefused.Load(),
		Retries:             c.retries.Load(),
		PacketsDropped:      c.packetsDropped.Load(),
		RequestsActive:      c.requestsActive.Load(),
		Requests:            c.requests.Load(),
		RequestsAnswered:    c.requestsAnswered.Load(),
		RequestsRejected:    c.requestsRejected.Load(),
		RequestsReset:       c.requestsReset.Load(),
		RequestsMalformed:   c.requestsMalformed.Load(),
		HeadersTooLarge:     c.headersTooLarge.Load(),
		Panics:              c.panics.Load(),
		HeadTimeouts:        c.headTimeouts.Load(),
		BodyTimeouts:        c.bodyTimeouts.Load(),
		RequestTimeouts:     c.requestTimeouts.Load(),
		IdleTimeouts:        c.idleTimeouts.Load(),
		RapidResets:         c.rapidResets.Load(),
		FrameFloods:         c.frameFloods.Load(),
		EarlyRun:            c.earlyRun.Load(),
		EarlyHeld:           c.earlyHeld.Load(),
		DatagramsReceived:   c.datagrams.received.Load(),
		DatagramsDropped:    c.datagrams.dropped.Load(),
		DatagramsStray:      c.datagrams.strays.Load(),
		DatagramsSent:       c.datagrams.sent.Load(),
	}
}

// serverCounters is the live form of ServerStats.
type serverCounters struct {
	conns, connsRefused, connsRefusedPerAddr           atomic.Uint64
	handshakesFailed, handshakesRefused, retries       atomic.Uint64
	packetsDropped                                     atomic.Uint64
	requestsActive                                     atomic.Int64
	requests, requestsAnswered                         atomic.Uint64
	requestsRejected, requestsReset, requestsMalformed atomic.Uint64
	headersTooLarge, panics                            atomic.Uint64
	headTimeouts, bodyTimeouts                         atomic.Uint64
	requestTimeouts, idleTimeouts                      atomic.Uint64
	rapidResets, frameFloods                           atomic.Uint64
	earlyRun, earlyHeld                                atomic.Uint64
	datagrams                                          datagramCounters
}
