package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailfin-quic/tailfin"
)

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// serverMetrics has a line for each field of tailfin.ServerStats.
var serverMetrics = []metric[tailfin.ServerStats]{
	{"tailfin_server_connections_open", "Open connections.", gauge, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.ConnsOpen) }},
	{"tailfin_server_connections_total", "Connections that were served.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.Conns) }},
	{"tailfin_server_connections_refused_total", refusedHelp, counter, prometheus.Labels{"limit": "all"},
		func(s *tailfin.ServerStats) float64 { return float64(s.ConnsRefused) }},
	{"tailfin_server_connections_refused_total", refusedHelp, counter, prometheus.Labels{"limit": "address"},
		func(s *tailfin.ServerStats) float64 { return float64(s.ConnsRefusedPerAddr) }},
	{"tailfin_server_connections_refused_total", refusedHelp, counter, prometheus.Labels{"limit": "handshakes"},
		func(s *tailfin.ServerStats) float64 { return float64(s.HandshakesRefused) }},

	{"tailfin_server_handshakes_active", "Handshakes under way.", gauge, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.HandshakesActive) }},
	{"tailfin_server_handshakes_failed_total", "Handshakes that ended before they were complete, most of them in silence.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.HandshakesFailed) }},
	{"tailfin_server_retries_total", "Initial packets answered by a Retry for many handshakes under way.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.Retries) }},
	{"tailfin_server_dropped_packets_total", "Packets for a connection that were dropped: not authentic, duplicates, too late, or too many at once.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.PacketsDropped) }},

	{"tailfin_http_requests_active", "Requests at work.", gauge, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestsActive) }},
	{"tailfin_server_requests_total", "Request streams that were opened.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.Requests) }},
	{"tailfin_server_requests_answered_total", "Requests whose answer was sent to its end.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestsAnswered) }},
	{"tailfin_server_requests_rejected_total", "Requests refused after GOAWAY.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestsRejected) }},
	{"tailfin_server_requests_reset_total", "Requests that clients reset unanswered.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestsReset) }},
	{"tailfin_server_requests_malformed_total", "Requests whose head broke the rules.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestsMalformed) }},
	{"tailfin_server_requests_header_too_large_total", "Requests whose header section was above the limit.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.HeadersTooLarge) }},
	{"tailfin_server_handler_panics_total", "Handlers that panicked.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.Panics) }},

	{"tailfin_server_timeouts_total", timeoutHelp, counter, prometheus.Labels{"of": "head"},
		func(s *tailfin.ServerStats) float64 { return float64(s.HeadTimeouts) }},
	{"tailfin_server_timeouts_total", timeoutHelp, counter, prometheus.Labels{"of": "body"},
		func(s *tailfin.ServerStats) float64 { return float64(s.BodyTimeouts) }},
	{"tailfin_server_timeouts_total", timeoutHelp, counter, prometheus.Labels{"of": "request"},
		func(s *tailfin.ServerStats) float64 { return float64(s.RequestTimeouts) }},
	{"tailfin_server_timeouts_total", timeoutHelp, counter, prometheus.Labels{"of": "idle"},
		func(s *tailfin.ServerStats) float64 { return float64(s.IdleTimeouts) }},

	{"tailfin_server_abuse_closes_total", abuseHelp, counter, prometheus.Labels{"by": "rapid_resets"},
		func(s *tailfin.ServerStats) float64 { return float64(s.RapidResets) }},
	{"tailfin_server_abuse_closes_total", abuseHelp, counter, prometheus.Labels{"by": "useless_frames"},
		func(s *tailfin.ServerStats) float64 { return float64(s.FrameFloods) }},

	{"tailfin_server_early_requests_total", earlyHelp, counter, prometheus.Labels{"outcome": "ran"},
		func(s *tailfin.ServerStats) float64 { return float64(s.EarlyRun) }},
	{"tailfin_server_early_requests_total", earlyHelp, counter, prometheus.Labels{"outcome": "held"},
		func(s *tailfin.ServerStats) float64 { return float64(s.EarlyHeld) }},

	{"tailfin_server_http_datagrams_received_total", "HTTP datagrams that arrived for a request at work.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.DatagramsReceived) }},
	{"tailfin_server_http_datagrams_dropped_total", "HTTP datagrams that made room for later ones, unread.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.DatagramsDropped) }},
	{"tailfin_server_http_datagrams_stray_total", "HTTP datagrams for no request at work.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.DatagramsStray) }},
	{"tailfin_server_http_datagrams_sent_total", "HTTP datagrams that handlers have sent.", counter, nil,
		func(s *tailfin.ServerStats) float64 { return float64(s.DatagramsSent) }},
}

const (
	refusedHelp = "Connections refused for a limit: on all, on those of one address, or on handshakes under way."
	timeoutHelp = "Requests ended for the time of their head, of a pause in their body, or of all of them, and connections closed for idling."
	abuseHelp   = "Connections closed for too many resets, or too many frames that bring nothing."
	earlyHelp   = "Requests in 0-RTT data that ran before their handshake was complete, or waited for it."
)

// drainMetrics has a line for each field of tailfin.DrainStats.
var drainMetrics = []metric[tailfin.DrainStats]{
	{"tailfin_drain_closes_total", "CONNECTION_CLOSE frames that the drain barrier met.", counter, nil,
		func(s *tailfin.DrainStats) float64 { return float64(s.Closes) }},
	{"tailfin_drain_saved_streams_total", "Streams that had something unread at a close.", counter, nil,
		func(s *tailfin.DrainStats) float64 { return float64(s.Streams) }},
	{"tailfin_drain_saved_bytes_total", "Bytes saved at closes: received, unread, and dropped without the barrier.", counter, nil,
		func(s *tailfin.DrainStats) float64 { return float64(s.Bytes) }},
	{"tailfin_drain_unaccepted_streams_total", "Streams that nobody had accepted at a close.", counter, nil,
		func(s *tailfin.DrainStats) float64 { return float64(s.Unaccepted) }},
	{"tailfin_drain_ahead_total", aheadHelp, counter, prometheus.Labels{"of": "idle_timeout"},
		func(s *tailfin.DrainStats) float64 { return float64(s.IdleDrains) }},
	{"tailfin_drain_ahead_bytes_total", aheadBytesHelp, counter, prometheus.Labels{"of": "idle_timeout"},
		func(s *tailfin.DrainStats) float64 { return float64(s.IdleBytes) }},
	{"tailfin_drain_ahead_total", aheadHelp, counter, prometheus.Labels{"of": "stateless_reset"},
		func(s *tailfin.DrainStats) float64 { return float64(s.ResetDrains) }},
	{"tailfin_drain_ahead_bytes_total", aheadBytesHelp, counter, prometheus.Labels{"of": "stateless_reset"},
		func(s *tailfin.DrainStats) float64 { return float64(s.ResetBytes) }},
	{"tailfin_drain_timed_out_total", "Drains that met their deadline, and so may have lost bytes.", counter, nil,
		func(s *tailfin.DrainStats) float64 { return float64(s.TimedOut) }},
}

const (
	aheadHelp      = "Times that streams were read ahead of an idle timeout or a stateless reset."
	aheadBytesHelp = "Bytes that were unread ahead of an idle timeout or a stateless reset."
)
