package tailfin

import "slices"

type outcomeKey struct {
	class Class
	phase Phase
}

// outcomeTable says what follows from each way a request can end, in each phase
// in which it can. Its rules:
//
//   - A retry is safe before the wire, after H3_REQUEST_REJECTED and at or above
//     the ID of a GOAWAY, and nowhere else (RFC 9114 §4.1.1, §5.2).
//   - HTTP/3 is given up for a while if there was no connection: refused, failed in
//     its handshake, or not answered in time. So it is if a connection's end cut a
//     body short, since the peer, or what is between, does not carry answers
//     whole. A FIN or a reset that does the same is the peer's own doing on a
//     connection that works. Any other end of a connection keeps HTTP/3: the next
//     dial will show what has become of the peer.
//   - A breaker ignores what the caller did, and what the peer declined in good
//     order: a graceful close and a GOAWAY before the response, a rejected
//     request, rejected 0-RTT data. Everything else that is no success is a failure.
//   - Only a success has a latency.
//
// OutcomeOf takes RetrySafe from the error; a test holds it against the table.
var outcomeTable = []Outcome{
	{ClassSuccess, PhaseComplete, false, false, Success, true},

	{ClassGracefulClose, PhaseBeforeWire, true, false, Ignored, false},
	{ClassGracefulClose, PhaseHeaders, false, false, Ignored, false},
	{ClassGoAway, PhaseBeforeWire, true, false, Ignored, false},
	{ClassGoAway, PhaseHeaders, true, false, Ignored, false},

	{ClassAppClose, PhaseBeforeWire, true, false, Failure, false},
	{ClassAppClose, PhaseHeaders, false, false, Failure, false},
	{ClassAppClose, PhaseBody, false, false, Failure, false},
	{ClassTransportClose, PhaseBeforeWire, true, false, Failure, false},
	{ClassTransportClose, PhaseHeaders, false, false, Failure, false},
	{ClassTransportClose, PhaseBody, false, false, Failure, false},

	{ClassResetRejected, PhaseHeaders, true, false, Ignored, false},
	{ClassResetRejected, PhaseBody, false, false, Failure, false}, // contradicts the response that has begun
	{ClassResetCancelled, PhaseHeaders, false, false, Failure, false},
	{ClassResetCancelled, PhaseBody, false, false, Failure, false},
	{ClassResetOther, PhaseHeaders, false, false, Failure, false},
	{ClassResetOther, PhaseBody, false, false, Failure, false},

	{ClassTruncatedGraceful, PhaseBody, false, true, Failure, false},
	{ClassTruncatedError, PhaseBody, false, true, Failure, false},
	{ClassTruncatedFIN, PhaseBody, false, false, Failure, false},

	{ClassFrameError, PhaseHeaders, false, false, Failure, false},
	{ClassFrameError, PhaseBody, false, false, Failure, false},

	{ClassIdleTimeout, PhaseBeforeWire, true, false, Failure, false},
	{ClassIdleTimeout, PhaseHeaders, false, false, Failure, false},
	{ClassIdleTimeout, PhaseBody, false, false, Failure, false},
	{ClassStatelessReset, PhaseBeforeWire, true, false, Failure, false},
	{ClassStatelessReset, PhaseHeaders, false, false, Failure, false},
	{ClassStatelessReset, PhaseBody, false, false, Failure, false},
	{ClassHeaderTimeout, PhaseHeaders, false, false, Failure, false},

	{ClassDialRefused, PhaseBeforeWire, true, true, Failure, false},
	{ClassDialHandshake, PhaseBeforeWire, true, true, Failure, false},
	{ClassDialTimeout, PhaseBeforeWire, true, true, Failure, false},
	{ClassDialOther, PhaseBeforeWire, true, false, Failure, false},
	{ClassEarlyRejected, PhaseBeforeWire, true, false, Ignored, false},

	{ClassCancelled, PhaseBeforeWire, true, false, Ignored, false},
	{ClassCancelled, PhaseHeaders, false, false, Ignored, false},
	{ClassCancelled, PhaseBody, false, false, Ignored, false},
	{ClassDeadline, PhaseBeforeWire, true, false, Ignored, false},
	{ClassDeadline, PhaseHeaders, false, false, Failure, false},
	{ClassDeadline, PhaseBody, false, false, Failure, false},
	{ClassRequestBody, PhaseBeforeWire, true, false, Ignored, false},
	{ClassRequestBody, PhaseHeaders, false, false, Ignored, false},
	{ClassRequest, PhaseBeforeWire, false, false, Ignored, false},

	// An error without a phase, as another RoundTripper returns.
	{ClassOther, PhaseBeforeWire, false, false, Failure, false},
}

var outcomeRows = func() map[outcomeKey]Outcome {
	rows := make(map[outcomeKey]Outcome, len(outcomeTable))
	for _, o := range outcomeTable {
		rows[outcomeKey{o.Class, o.Phase}] = o
	}
	return rows
}()

// OutcomeTable returns every way in which a request can end that this package
// tells apart, and what follows from it: the table behind OutcomeOf.
func OutcomeTable() []Outcome { return slices.Clone(outcomeTable) }
