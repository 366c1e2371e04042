package soak

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Row is what a soak has found.
type Row struct {
	Scenario string  `json:"scenario"` // soak
	Path     string  `json:"path"`     // wire or loopback
	Reader   string  `json:"reader"`   // of datagrams: the backend
	Result   string  `json:"result"`   // pass or fail
	Minutes  float64 `json:"minutes"`
	Every    float64 `json:"every_s"` // between samples

	Requests  int64   `json:"requests_done"` // each as it must be
	Bytes     int64   `json:"body_bytes"`
	Faults    int     `json:"faults"`
	Takeovers int     `json:"take_overs"`
	Lost      int64   `json:"lost"`
	Corrupt   int64   `json:"corrupt"`
	Crashed   int64   `json:"crashed"`
	Leaked    int64   `json:"leaked"`  // files
	Growing   int     `json:"growing"` // series
	Failed    int64   `json:"failed"`  // in faults of the network
	Unsure    int64   `json:"unsure"`
	BaseAfter float64 `json:"base_after_s"` // from the end of the load to all being as before it; 0 if it is not

	// Medians of samples.
	Heap       float64 `json:"heap_live_bytes"`
	RSS        float64 `json:"rss_bytes"`
	Peak       float64 `json:"rss_peak_bytes"` // the highest
	Goroutines float64 `json:"goroutines"`
	FDs        float64 `json:"descriptors"`
	Conns      float64 `json:"connections_open"`
	CPU        float64 `json:"cpu_of_a_processor"`

	Levels   []Level          `json:"levels"`
	Base     []Base           `json:"base"`
	Kinds    map[string]Tally `json:"kinds"` // of clients
	Failures map[string]int64 `json:"failures,omitempty"`
	Schedule []Event          `json:"schedule"`
	Missed   int              `json:"samples_missed"`
	Why      string           `json:"why,omitempty"`      // it has failed
	Troubles []string         `json:"troubles,omitempty"` // in words

	// Samples has each field's values over time_s, and in take_over_s the times from which
	// they are of another process.
	Samples map[string][]float64 `json:"samples,omitempty"`

	Skipped string `json:"skipped,omitempty"`
	Invalid string `json:"invalid,omitempty"`
}

// Results of a Row.
const (
	Pass = "pass"
	Fail = "fail"
)

// maxPoints bounds the samples that a row keeps of a field.
const maxPoints = 720

// fill takes what was sampled.
func (r *Row) fill(s *series) {
	r.Heap, r.RSS, r.Peak = s.median(fieldHeap), s.median(fieldRSS), s.most(fieldPeak)
	r.Goroutines, r.FDs, r.Conns, r.CPU = s.median(fieldGoroutines), s.median(fieldFDs), s.median(fieldConns), s.median(fieldLoad)
	r.Levels = judge(s)
	r.Growing = len(growing(r.Levels))
	thin := s.thin(maxPoints)
	r.Samples = map[string][]float64{fieldTime: thin.at}
	if begins := thin.begins(); len(begins) > 0 {
		r.Samples["take_over_s"] = begins
	}
	for name, list := range thin.values {
		r.Samples[name] = list
	}
	for _, list := range r.Samples {
		for i, v := range list {
			list[i] = math.Round(v*1000) / 1000 // no one needs more in a file
		}
	}
}

// count takes what the clients have done.
func (r *Row) count(l loadReport) {
	all := sum(l.Kinds)
	r.Kinds, r.Failures = l.Kinds, l.Failures
	r.Troubles = append(r.Troubles, l.Troubles...)
	r.Requests, r.Bytes = all.Done, all.Bytes
	r.Lost, r.Corrupt, r.Failed, r.Unsure = all.Lost, all.Corrupt, all.Failed, all.Unsure
	r.Crashed += all.Crashed
}

// conclude says whether it has passed, and why if not.
func (r *Row) conclude() {
	var why []string
	for _, c := range []struct {
		n    int64
		what string
	}{
		{r.Lost, "lost"}, {r.Corrupt, "corrupt"}, {r.Crashed, "crashed"}, {r.Leaked, "files left"},
	} {
		if c.n > 0 {
			why = append(why, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	for _, l := range r.Levels {
		if l.Result == Growing {
			why = append(why, fmt.Sprintf("%s is growing: by %.6g, and %.6g is allowed", l.Name, l.Growth, l.Allowed))
		}
	}
	for _, b := range r.Base {
		if !b.Back {
			why = append(why, fmt.Sprintf("%s is not back a minute after the load: %.6g, and it was %.6g", b.Name, b.After, b.Before))
		}
	}
	for _, e := range r.Schedule {
		if e.Error != "" {
			why = append(why, fmt.Sprintf("a fault could not be made: %s: %s", e, e.Error))
		}
	}
	if r.Requests == 0 {
		why = append(why, "no request was answered")
	}
	r.Result, r.Why = Pass, strings.Join(why, "; ")
	if len(why) > 0 {
		r.Result = Fail
	}
}

// An Error is a soak that has found something.
type Error struct{ Why string }

func (e *Error) Error() string { return "soak: " + e.Why }

// line is what a soak says of itself while it runs.
func line(s sample, load Tally, fault string) string {
	text := fmt.Sprintf("%d requests, heap %.1f MB, %.1f MB resident, %.0f goroutines, %.0f descriptors, %.0f connections, %d lost, %d corrupt",
		load.Done, s[fieldHeap]/1e6, s[fieldRSS]/1e6, s[fieldGoroutines], s[fieldFDs], s[fieldConns], load.Lost, load.Corrupt)
	if fault != "" {
		text += ", " + fault
	}
	return text
}

// Summary is a schedule in a few lines: how often each kind comes.
func Summary(schedule []Event) string {
	n := map[Kind]int{}
	var kinds []Kind
	for _, e := range schedule {
		if n[e.Kind]++; n[e.Kind] == 1 {
			kinds = append(kinds, e.Kind)
		}
	}
	slices.Sort(kinds)
	var parts []string
	for _, k := range kinds {
		parts = append(parts, fmt.Sprintf("%d × %s", n[k], k))
	}
	return strings.Join(parts, ", ")
}

// took is how long after some time it is, in seconds.
func took(since time.Time) float64 { return math.Round(time.Since(since).Seconds()*10) / 10 }
