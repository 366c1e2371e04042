package udp

import (
	"math/bits"
	"sync/atomic"
)

// Stats counts what a Conn did since it was made. All counts grow only. To
// count costs a few nanoseconds a datagram, and cannot be switched off.
type Stats struct {
	Backend Backend `json:"backend"` // as Conn.Backend
	Reason  string  `json:"reason"`  // as Conn.Reason

	Datagrams   uint64 `json:"datagrams"`    // delivered to the reader
	Bytes       uint64 `json:"bytes"`        // of their payload
	Receives    uint64 `json:"receives"`     // what the kernel handed over at a time: datagrams and trains
	Trains      uint64 `json:"trains"`       // receives that held two datagrams or more
	MaxTrain    uint64 `json:"max_train"`    // datagrams of the longest train
	TrainSizes  Sizes  `json:"train_sizes"`  // receives by how many datagrams they held
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
	HandedOver  uint64 `json:"handed_over"`  // datagrams received for another shard, and given to it
	InboxDrops  uint64 `json:"inbox_drops"`  // datagrams of other shards that this one had no room for
	KeptBack    uint64 `json:"kept_back"`    // datagrams that an Inspector did not let pass
	Sends       uint64 `json:"sends"`        // writes, each a datagram or a GSO train
	SendDrops   uint64 `json:"send_drops"`   // writes that the kernel lacked memory for; a train counts as one
}

// Sizes counts receives by their number of datagrams: 1, 2–3, 4–7, 8–15,
// 16–31, 32–63, and 64, which is the most that the kernel joins.
type Sizes [7]uint64

// counters is the live form of Stats.
type counters struct {
	datagrams, bytes, maxTrain, batches, wakes, pauses, enters, truncated, failed, handedOver, inboxDrops, keptBack, sends atomic.Uint64

	sizes [len(Sizes{})]atomic.Uint64
}

// received counts one receive of n datagrams.
func (c *counters) received(n int) {
	c.sizes[min(bits.Len(uint(n))-1, len(c.sizes)-1)].Add(1)
	if uint64(n) > c.maxTrain.Load() {
		c.maxTrain.Store(uint64(n))
	}
}

func (c *counters) snapshot() Stats {
	s := Stats{
		Datagrams: c.datagrams.Load(),
		Bytes:     c.bytes.Load(),
		MaxTrain:  c.maxTrain.Load(),
		Batches:   c.batches.Load(),
		Wakes:     c.wakes.Load(),
		Pauses:    c.pauses.Load(),
		Enters:    c.enters.Load(),
		Truncated: c.truncated.Load(),
		Failed:    c.failed.Load(),
		Sends:     c.sends.Load(),

		HandedOver: c.handedOver.Load(),
		InboxDrops: c.inboxDrops.Load(),
		KeptBack:   c.keptBack.Load(),
	}
	for i := range c.sizes {
		s.TrainSizes[i] = c.sizes[i].Load()
		s.Receives += s.TrainSizes[i]
	}
	s.Trains = s.Receives - s.TrainSizes[0]
	return s
}
