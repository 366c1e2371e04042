package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/closerace"
)

// TestBenchCloserace checks the form; package closerace runs it in earnest.
func TestBenchCloserace(t *testing.T) {
	matrix := []string{"bench", "closerace", "--sizes", "1000", "--delays", "0s", "--reader-delays", "1ms", "--iterations", "2", "--rounds", "1"}
	r := runTailfin(t, append(matrix, "--json", "-")...)
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	var out struct {
		Rows []closerace.Row `json:"rows"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatal(err)
	}
	if want := len(closerace.Directions) * len(closerace.Receivers); len(out.Rows) != want {
		t.Fatalf("%d rows, want %d", len(out.Rows), want)
	}
	if r = runTailfin(t, append(matrix, "--receivers", "on", "--directions", "download")...); r.code != exitOK || !strings.Contains(r.stdout, "not received") {
		t.Errorf("%+v", r)
	}
	if r = runTailfin(t, "bench", "closerace", "--sizes", "1"); r.code != exitUsage {
		t.Errorf("a size that is too small: %+v", r)
	}
}
