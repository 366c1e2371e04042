package netlab

// Stats are the counters of both directions.
type Stats struct {
	Forward Counters `json:"forward"` // from the sender to the receiver
	Back    Counters `json:"back"`

	// CPU is what the wire's process has used, user and system, in seconds; 0 where
	// there is none.
	CPU float64 `json:"cpu_s"`
}

// Counters say what has become of the packets of one direction. Each that was sent has
// Passed or is Gone, or is still under way.
//
// Where there is no wire, Passed is what the device of the far end counts, for which a
// train that crosses whole is one packet; Lost is what netem says it has dropped; and
// the others but Dropped are 0.
type Counters struct {
	Passed     uint64 `json:"passed"`     // handed over, copies not counted
	Duplicated uint64 `json:"duplicated"` // copies handed over
	HeldBack   uint64 `json:"held_back"`  // of Passed: held back, for others to overtake
	Jittered   uint64 `json:"jittered"`   // of Passed: later by their own jitter, not by that of one before
	Largest    uint64 `json:"largest"`    // of Passed: the size of the largest IP packet, in bytes

	Interrupted uint64 `json:"interrupted"` // sent while Lab.Interrupt let nothing through
	Lost        uint64 `json:"lost"`        // by chance
	Overflowed  uint64 `json:"overflowed"`  // the queue before the rate was full
	TooBig      uint64 `json:"too_big"`     // for the black hole
	Unmapped    uint64 `json:"unmapped"`    // the NAT has no mapping for it
	Dropped     uint64 `json:"dropped"`     // by a device, whose ring was full
}

// Gone is how many have not arrived and never will.
func (c Counters) Gone() uint64 {
	return c.Interrupted + c.Lost + c.Overflowed + c.TooBig + c.Unmapped + c.Dropped
}
