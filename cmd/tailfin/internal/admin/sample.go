package admin

import (
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

const (
	sampleInterval = time.Second
	// keptSamples are those at both ends of five minutes, and between.
	keptSamples = int(5*time.Minute/sampleInterval) + 1
	// rateTime is what the rates shown as numbers are a mean of.
	rateTime = 5 * time.Second
)

// A sample is all counts at one time.
type sample struct {
	at      time.Time
	server  tailfin.ServerStats
	drain   tailfin.DrainStats
	notQUIC uint64
	all     udp.Stats   // the sum of the shards
	shards  []udp.Stats // only of the last samples
	rooms   rooms
	proc    process
}

// process is what the runtime and the system say of us.
type process struct {
	cpu        float64 // seconds of processor time
	memory     uint64  // bytes that the runtime holds
	goroutines uint64
}

// A sampler takes samples and keeps the last of them: five minutes. Nothing
// that works for clients waits for it.
type sampler struct {
	src      *sources
	gatherer prometheus.Gatherer
	every    time.Duration    // from sample to sample
	runtime  []metrics.Sample // of take

	mu   sync.Mutex
	kept []sample // the oldest first
	seq  uint64   // of the last
}

func newSampler(src *sources, g prometheus.Gatherer, every time.Duration) *sampler {
	return &sampler{src: src, gatherer: g, every: every, runtime: []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/sched/goroutines:goroutines"},
	}}
}

// rateSamples are the intervals of rateTime.
func (s *sampler) rateSamples() int { return max(1, int(rateTime/s.every)) }

// take is called by one goroutine.
func (s *sampler) take(now time.Time) {
	metrics.Read(s.runtime)
	next := sample{
		at: now, server: s.src.server(), drain: s.src.drain(), notQUIC: s.src.notQUIC(),
		shards: s.src.shards(), rooms: gatherRooms(s.gatherer),
		proc: process{
			cpu:        cpuSeconds(),
			memory:     s.runtime[0].Value.Uint64() - s.runtime[1].Value.Uint64(),
			goroutines: s.runtime[2].Value.Uint64(),
		},
	}
	next.all = sumShards(next.shards)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == keptSamples {
		s.kept = slices.Delete(s.kept, 0, 1)
	}
	s.kept = append(s.kept, next)
	if i := len(s.kept) - 1 - s.rateSamples() - 1; i >= 0 {
		// 256 shards for five minutes would be much.
		s.kept[i].shards = nil
	}
	s.seq++
}

// sumShards adds up what is to be shown of all sockets.
func sumShards(shards []udp.Stats) udp.Stats {
	var sum udp.Stats
	for _, s := range shards {
		sum.Datagrams += s.Datagrams
		sum.Bytes += s.Bytes
		sum.Receives += s.Receives
		sum.Trains += s.Trains
		sum.MaxTrain = max(sum.MaxTrain, s.MaxTrain)
		for i, n := range s.TrainSizes {
			sum.TrainSizes[i] += n
		}
		sum.Batches += s.Batches
		sum.Wakes += s.Wakes
		sum.Pauses += s.Pauses
		sum.Enters += s.Enters
		sum.Rearms += s.Rearms
		sum.NoBuffers += s.NoBuffers
		sum.Overflows += s.Overflows
		sum.Truncated += s.Truncated
		sum.Failed += s.Failed
		sum.KernelDrops += s.KernelDrops
		sum.HandedOver += s.HandedOver
		sum.InboxDrops += s.InboxDrops
		sum.KeptBack += s.KeptBack
		sum.Sends += s.Sends
		sum.SendDrops += s.SendDrops
	}
	return sum
}

// history is a copy of the samples kept, the oldest first, and the number of the last.
func (s *sampler) history() ([]sample, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.kept), s.seq
}

// last is the number of the last sample.
func (s *sampler) last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}
