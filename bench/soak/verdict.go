package soak

import (
	"math"
	"slices"

	"github.com/tailfin-quic/tailfin/bench/stat"
)

// A Level is what became of a series.
type Level struct {
	Name  string  `json:"name"` // as in a row's samples
	Unit  string  `json:"unit"`
	First float64 `json:"first"` // medians of the first and the last fifth of what counts
	Last  float64 `json:"last"`
	Most  float64 `json:"most"` // of all samples

	// Growth is that over the time that counts, as the median slope has it.
	Growth  float64 `json:"growth"`
	Allowed float64 `json:"allowed"`
	Result  string  `json:"result"`
}

// Results of a Level.
const (
	IsLevel  = "level"
	Growing  = "growing"
	TooShort = "too short" // to be judged
)

// A limit is how much a series may grow in the time that counts: a part of its median, and more.
type limit struct {
	name string
	unit string
	part float64
	more float64
}

const mebi = 1 << 20

// limits are of all series that must be level. The part is for what drifts by chance. The
// rest is for what an hour of chance makes of the slope, for caches that fill up slowly and
// have an end, such as what is known of uploads that can be resumed, and in resident memory
// for what Go's heap keeps of its peaks. A leak of one in a hundred connections, requests or
// uploads exceeds it many times over.
var limits = []limit{
	{fieldHeap, "bytes", 0.05, 4 * mebi},
	{fieldStacks, "bytes", 0.05, 1 * mebi},
	{fieldRSS, "bytes", 0.05, 20 * mebi},
	{fieldGoroutines, "", 0.05, 25},
	{fieldThreads, "", 0.05, 10},
	{fieldFDs, "", 0.05, 6},
	{fieldMaps, "", 0.05, 24},
	{fieldConns, "", 0.05, 20},
	{fieldAtWork, "", 0.05, 10},
	{fieldPartials, "", 0.05, 10},
	{fieldClientHeap, "bytes", 0.05, 4 * mebi},
	{fieldClientGoroutines, "", 0.05, 40},
	{fieldClientFDs, "", 0.05, 10},
}

const (
	// warmPart is the part of each process's time that does not count, and warmTime the
	// least: in it the load comes over from the process before, the last of it when a client
	// that idles makes its next request.
	warmPart = 0.2
	warmTime = 90.0 // seconds
	// leastTime and leastSamples are what a process must have beyond it to be judged.
	leastTime    = 60.0 // seconds
	leastSamples = 12
	// mostJudged bounds the samples of a series: of the pairs there are half its square.
	mostJudged = 240
)

// judge looks at all series.
func judge(s *series) []Level {
	s = s.thin(mostJudged)
	list := make([]Level, 0, len(limits))
	for _, l := range limits {
		list = append(list, l.judge(s))
	}
	return list
}

// growing are the names of those that grow.
func growing(list []Level) (names []string) {
	for _, l := range list {
		if l.Result == Growing {
			names = append(names, l.Name)
		}
	}
	return names
}

// judge looks at one series.
func (l limit) judge(s *series) Level {
	values := s.values[l.name]
	v := Level{Name: l.name, Unit: l.unit, Result: TooShort}
	if len(values) != len(s.at) {
		return v // it was not sampled
	}
	var slopes, counted []float64
	judged := 0.0
	for _, part := range s.processes() {
		begin, end := s.at[part.begin], s.at[part.end-1]
		from := part.begin
		for from < part.end && s.at[from] < begin+max(warmTime, warmPart*(end-begin)) {
			from++
		}
		if part.end-from < leastSamples || end-s.at[from] < leastTime {
			continue
		}
		judged += end - s.at[from]
		counted = append(counted, values[from:part.end]...)
		for i := from; i < part.end; i++ {
			for j := i + 1; j < part.end; j++ {
				slopes = append(slopes, (values[j]-values[i])/(s.at[j]-s.at[i]))
			}
		}
	}
	if len(values) > 0 {
		v.Most = slices.Max(values)
	}
	if len(slopes) == 0 {
		return v
	}
	fifth := max(1, len(counted)/5)
	v.First, v.Last = stat.Median(counted[:fifth]), stat.Median(counted[len(counted)-fifth:])
	v.Growth = stat.Median(slopes) * judged
	v.Allowed = l.part*math.Abs(stat.Median(counted)) + l.more
	v.Result = IsLevel
	if v.Growth > v.Allowed {
		v.Result = Growing
	}
	return v
}

// A Base is what must be as it was before the load, a while after it.
type Base struct {
	Name   string  `json:"name"`
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Slack  float64 `json:"slack"` // how much more After may be
	Back   bool    `json:"back"`
}

// bases are the series that must be back. What is made but once, at the first request,
// and what take-overs leave for the next one, is the slack.
var bases = []limit{
	{name: fieldConns},
	{name: fieldAtWork},
	{name: fieldPartials},
	{name: fieldGoroutines, more: 8},
	{name: fieldFDs, more: 8},
}

// compare holds a sample against the one before the load.
func compare(before, after sample) (list []Base, back bool) {
	back = true
	for _, b := range bases {
		one := Base{Name: b.name, Before: before[b.name], After: after[b.name], Slack: b.more}
		one.Back = one.After <= one.Before+one.Slack
		back = back && one.Back
		list = append(list, one)
	}
	return list, back
}
