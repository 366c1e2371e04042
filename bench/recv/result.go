package recv

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
	Train    float64 `json:"train"`    // datagrams a receive, in that interval
	P50      float64 `json:"p50_us"`   // in that interval
	P99      float64 `json:"p99_us"`

	GRO     bool   `json:"gro"`
	Backend string `json:"backend"`
	RcvBuf  int    `json:"rcvbuf"`
	Error   string `json:"error"`
}

// sentReport is what a sender process reports, as JSON.
type sentReport struct {
	Sent    uint64  `json:"sent"`    // datagrams that the kernel took
	Refused uint64  `json:"refused"` // sends that it did not take, which are not made up for
	Seconds float64 `json:"seconds"`
	Busy    float64 `json:"busy_s"`      // of those in which it did not wait for its next tick
	CPU     float64 `json:"cpu_s"`       // user and system
	LateP99 float64 `json:"late_p99_us"` // of the sends, behind their ticks
	Error   string  `json:"error"`
}

// utilization is the share of its time in which the sender was at work. At a rate it
// waits for its ticks by spinning, so that its processor time would not tell.
func (s sentReport) utilization(rate int) float64 {
	if rate > 0 {
		return s.Busy / s.Seconds
	}
	return s.CPU / s.Seconds
}

// A run is a result beside what was sent.
type run struct {
	result
	sent              uint64
	offered           float64 // datagrams a second
	senderUtilization float64
	senderLate        float64
	refused           uint64

	missing     uint64 // sent and not read
	gone        uint64 // lost on the path, as that counts them
	unaccounted uint64 // missing, and more than gone and the drops at the socket explain
	bounded     bool   // the drops are of trains of unknown length
	wrong       string // what does not add up, empty if all does
}

func (r run) cpuPerDatagram() float64 {
	if r.Measured == 0 {
		return 0
	}
	return r.CPU * 1e9 / float64(r.Measured)
}

func (r run) perSecond() float64 { return float64(r.Measured) / r.Seconds }
func (r run) p50() float64       { return r.P50 }
func (r run) p99() float64       { return r.P99 }
