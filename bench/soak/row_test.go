package soak

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestConclude has each finding make a soak fail, and say so.
func TestConclude(t *testing.T) {
	good := func() *Row {
		return &Row{Requests: 1, Levels: []Level{{Name: fieldFDs, Result: IsLevel}, {Name: fieldRSS, Result: TooShort}}, Base: []Base{{Name: fieldConns, Back: true}}, Failed: 3, Unsure: 4}
	}
	r := good()
	if r.conclude(); r.Result != Pass || r.Why != "" {
		t.Errorf("%+v", r)
	}
	for want, change := range map[string]func(r *Row){
		"1 lost":                   func(r *Row) { r.Lost = 1 },
		"2 corrupt":                func(r *Row) { r.Corrupt = 2 },
		"1 crashed":                func(r *Row) { r.Crashed = 1 },
		"3 files left":             func(r *Row) { r.Leaked = 3 },
		"descriptors is growing":   func(r *Row) { r.Levels[0].Result = Growing },
		"connections_open is not":  func(r *Row) { r.Base[0].Back = false },
		"loss 10% 2.0s: no device": func(r *Row) { r.Schedule = []Event{{Kind: Loss, Much: 0.1, For: 2, Error: "no device"}} },
		"no request was answered":  func(r *Row) { r.Requests = 0 },
	} {
		r := good()
		change(r)
		if r.conclude(); r.Result != Fail || !strings.Contains(r.Why, want) {
			t.Errorf("%q: %s, %q", want, r.Result, r.Why)
		}
	}
}

// TestRowJSON looks for samples and figures where readers of the JSON look.
func TestRowJSON(t *testing.T) {
	s := &series{}
	for i := range 2000 {
		one := sample{fieldPeak: float64(i), fieldLoad: 0.1234567}
		for _, l := range limits {
			one[l.name] = 5
		}
		s.add(float64(i), i/1000, one)
	}
	r := Row{Scenario: "soak"}
	r.fill(s)
	r.count(loadReport{Kinds: map[string]Tally{putSmall: {Done: 2, Bytes: 10, Lost: 1}, leave: {Done: 1, Unsure: 4}}})
	r.conclude()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Scenario string               `json:"scenario"`
		FDs      float64              `json:"descriptors"`
		Peak     float64              `json:"rss_peak_bytes"`
		Lost     int                  `json:"lost"`
		Done     int                  `json:"requests_done"`
		Result   string               `json:"result"`
		Samples  map[string][]float64 `json:"samples"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	n := len(got.Samples[fieldTime])
	if got.Scenario != "soak" || got.FDs != 5 || got.Peak != 1999 || got.Lost != 1 || got.Done != 3 || got.Result != Fail || n > maxPoints || n < maxPoints/2 {
		t.Errorf("%d points, %+v", n, got)
	}
	for name, list := range got.Samples {
		if name == "take_over_s" && (len(list) != 1 || list[0] < 999 || list[0] > 1003) || name != "take_over_s" && len(list) != n {
			t.Errorf("%s has %d values: %v", name, len(list), list)
		}
	}
	if got.Samples[fieldLoad][0] != 0.123 {
		t.Errorf("%v", got.Samples[fieldLoad][0])
	}
}

func TestWords(t *testing.T) {
	text := line(sample{fieldHeap: 12.34e6, fieldRSS: 60e6, fieldGoroutines: 300, fieldFDs: 40, fieldConns: 70}, Tally{Done: 5}, "1:02 stop 1.0s")
	for _, want := range []string{"5 requests", "heap 12.3 MB", "300 goroutines", "40 descriptors", "70 connections", "0 lost", "1:02 stop"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if got := Summary([]Event{{Kind: Stop}, {Kind: Loss}, {Kind: Stop}}); got != "1 × loss, 2 × stop" {
		t.Error(got)
	}
	if d := took(time.Now().Add(-2 * time.Second)); d < 2 || d > 60 {
		t.Error(d)
	}
}
