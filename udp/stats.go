package udp

import "sync/atomic"

// Stats counts what a Conn did since it was made. All counts grow only.
type Stats struct {
	Datagrams   uint64 `json:"datagrams"`    // delivered to the reader
	Bytes       uint64 `json:"bytes"`        // of their payload
	Trains      uint64 `json:"trains"`       // receives that held two datagrams or more
	MaxTrain    uint64 `json:"max_train"`    // datagrams of the longest train
	Batches     uint64 `json:"batches"`      // ReadBatch calls that returned datagrams
	Wakes       uint64 `json:"wakes"`        // times that a reader slept and the socket woke it
	Pauses      uint64 `json:"pauses"`       // times that a reader slept to let datagrams gather
	Enters      uint64 `json:"enters"`       // system calls that read: io_uring_enter, recvmmsg, recvmsg
	Rearms      uint64 `json:"rearms"`       // multishot receives started on io_uring
	NoBuffers   uint64 `json:"no_buffers"`   // times that io_uring ran out of buffers; nothing is lost by it
	Overflows   uint64 `json:"overflows"`    // times that the completion ring was full; nothing is lost by it
	Truncated   uint64 `json:"truncated"`    // datagrams dropped because they did not fit
	Failed      uint64 `json:"failed"`       // errors that the socket reported of datagrams sent earlier
	KernelDrops uint64 `json:"kernel_drops"` // what the kernel dropped for a full receive buffer; a train counts as one
	Sends       uint64 `json:"sends"`        // writes, each a datagram or a GSO train
}

// counters is the live form of Stats.
type counters struct {
	datagrams, bytes, trains, maxTrain, batches, wakes, pauses, enters, truncated, failed, sends atomic.Uint64
}

func (c *counters) snapshot() Stats {
	return Stats{
		Datagrams: c.datagrams.Load(),
		Bytes:     c.bytes.Load(),
		Trains:    c.trains.Load(),
		MaxTrain:  c.maxTrain.Load(),
		Batches:   c.batches.Load(),
		Wakes:     c.wakes.Load(),
		Pauses:    c.pauses.Load(),
		Enters:    c.enters.Load(),
		Truncated: c.truncated.Load(),
		Failed:    c.failed.Load(),
		Sends:     c.sends.Load(),
	}
}
