package transfer

// received is what a receiver has taken of the bodies of a turn, as JSON.
type received struct {
	Bytes   int64   `json:"bytes"` // of bodies
	Whole   int     `json:"whole"` // bodies that ended with io.EOF
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_s"`
	Allocs  uint64  `json:"allocs"`
	Packets uint64  `json:"packets"` // 0 where nobody counts them
	Train   float64 `json:"train"`   // datagrams that a udp.Conn got at a time
	Error   string  `json:"error"`
}

// sentReport is what a sender says of the bodies of a turn, as JSON.
type sentReport struct {
	Bytes   int64   `json:"bytes"`
	Bodies  int     `json:"bodies"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_s"`
	P50     float64 `json:"p50_us"` // of small requests
	P99     float64 `json:"p99_us"`
	Error   string  `json:"error"`
}
