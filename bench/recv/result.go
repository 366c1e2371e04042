package recv

import "fmt"

// A result is what a receiver process reports of a run, as JSON.
type result struct {
	Received  uint64 `json:"received"` // in the whole run
	Reordered uint64 `json:"reordered"`
	Foreign   uint64 `json:"foreign"` // datagrams that the sender did not make
	Drops     uint64 `json:"drops"`   // by the kernel, in its unit

	Measured uint64  `json:"measured"` // datagrams in the measured interval
	Seconds  float64 `json:"seconds"`  // of that interval
	CPU      float64 `json:"cpu_s"`    // user and system, in that interval
	Allocs   float64 `json:"allocs"`   // in that interval
	Syscalls float64 `json:"syscalls"` // that read, in that interval, 0 if unknown
	Train    float64 `json:"train"`    // datagrams a receive
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`

	GRO     bool   `json:"gro"`
	Backend string `json:"backend"`
	RcvBuf  int    `json:"rcvbuf"`
	Error   string `json:"error"`
}

// sentReport is what a sender process reports, as JSON.
type sentReport struct {
	Sent    uint64  `json:"sent"` // datagrams that the kernel took
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error"`
}

// A run is a result beside what was sent.
type run struct {
	result
	sent    uint64
	offered float64 // datagrams a second
	account string  // what does not add up, empty if all does
}

func (r run) cpuPerDatagram() float64 {
	if r.Measured == 0 {
		return 0
	}
	return r.CPU * 1e9 / float64(r.Measured)
}

// reconcile compares what was sent with what was read and what was dropped.
// Where the kernel makes trains it drops a train as one, but for the last one
// of a sender that was stopped all have the same length.
func (r *run) reconcile(segments int) {
	unit := uint64(1)
	if r.GRO {
		unit = uint64(segments)
	}
	switch missing := r.sent - r.Received; {
	case r.Received > r.sent:
		r.account = fmt.Sprintf("received %d of %d sent", r.Received, r.sent)
	case r.Foreign > 0:
		r.account = fmt.Sprintf("%d datagrams were not of the sender", r.Foreign)
	case missing != r.Drops*unit:
		r.account = fmt.Sprintf("%d missing, %d dropped by the kernel (each %d datagrams)", missing, r.Drops, unit)
	}
}
