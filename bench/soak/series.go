package soak

import (
	"slices"

	"github.com/tailfin-quic/tailfin/bench/stat"
)

// The fields of a sample, as the JSON has them.
const (
	fieldTime = "time_s"

	fieldHeap       = "heap_live_bytes" // after the last garbage collection
	fieldObjects    = "heap_objects"
	fieldStacks     = "stack_bytes"
	fieldGoroutines = "goroutines"
	fieldConns      = "connections_open"
	fieldAtWork     = "requests_at_work"
	fieldPartials   = "resumable_uploads"
	fieldDatagrams  = "datagrams"
	fieldDrops      = "kernel_drops"
	fieldNoBuffers  = "ring_no_buffers"
	fieldPanics     = "handler_panics"

	fieldRSS     = "rss_bytes"
	fieldPeak    = "rss_peak_bytes"
	fieldFDs     = "descriptors"
	fieldThreads = "threads"
	fieldMaps    = "mappings"
	fieldCPU     = "cpu_s" // of the process so far

	fieldClientHeap       = "client_heap_live_bytes"
	fieldClientGoroutines = "client_goroutines"
	fieldClientFDs        = "client_descriptors"
	fieldClientRSS        = "client_rss_bytes"

	fieldRequests = "requests_done"
	fieldLoad     = "cpu_of_a_processor" // since the sample before
)

// A sample is what was read at one time.
type sample map[string]float64

// series are samples, one after the other.
type series struct {
	at      []float64 // seconds since the load began
	process []int     // the number of the process that was sampled
	values  map[string][]float64
}

// add takes one more. A field that the first one does not have is left out, and one that
// this one does not have is as before.
func (s *series) add(at float64, process int, one sample) {
	if s.values == nil {
		s.values = make(map[string][]float64)
		for name := range one {
			s.values[name] = nil
		}
	}
	for name, list := range s.values {
		v, ok := one[name]
		if !ok && len(list) > 0 {
			v = list[len(list)-1]
		}
		s.values[name] = append(list, v)
	}
	s.at, s.process = append(s.at, at), append(s.process, process)
}

// A stretch is the samples of one process.
type stretch struct{ begin, end int }

func (s *series) processes() (list []stretch) {
	for i := range s.process {
		if i == 0 || s.process[i] != s.process[i-1] {
			list = append(list, stretch{i, i})
		}
		list[len(list)-1].end = i + 1
	}
	return list
}

// thin has at most so many samples: medians of as many neighbours as is needed.
func (s *series) thin(most int) *series {
	out := s
	for by := 2; len(out.at) > most; by++ {
		out = s.joined(by)
	}
	return out
}

// joined has medians of by samples, each of one process.
func (s *series) joined(by int) *series {
	out := &series{values: make(map[string][]float64)}
	for _, part := range s.processes() {
		for i := part.begin; i < part.end; i += by {
			end := min(i+by, part.end)
			out.at = append(out.at, stat.Median(s.at[i:end]))
			out.process = append(out.process, s.process[i])
			for name, list := range s.values {
				out.values[name] = append(out.values[name], stat.Median(list[i:end]))
			}
		}
	}
	return out
}

// median is that of a field; 0 of none.
func (s *series) median(name string) float64 {
	if len(s.values[name]) == 0 {
		return 0
	}
	return stat.Median(s.values[name])
}

// most is the largest value of a field.
func (s *series) most(name string) float64 {
	if len(s.values[name]) == 0 {
		return 0
	}
	return slices.Max(s.values[name])
}

// begins are the times from which samples are of another process.
func (s *series) begins() (list []float64) {
	for _, part := range s.processes() {
		if part.begin > 0 {
			list = append(list, s.at[part.begin])
		}
	}
	return list
}
