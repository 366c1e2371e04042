package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/decode"
	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/stat"
	"github.com/tailfin-quic/tailfin/bench/uploads"
)

// TestBenchDecode has all kinds of its processes run, and looks for the fields that
// readers of the JSON rely on.
func TestBenchDecode(t *testing.T) {
	r := runTailfin(t, "bench", "decode", "--transcript", "small", "--time", "1ms", "--method", "POST", "--flows", "1",
		"--requests-time", "30ms", "--pairs", "1", "--no-pin", "--json", "-")
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	var out struct {
		Environment map[string]any   `json:"environment"`
		Rows        []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatal(err)
	}
	want := len(decode.Readers(decode.Small)) + len(uploads.Receivers)
	if len(out.Rows) != want || out.Environment["go"] == "" {
		t.Fatalf("%d rows, want %d: %s", len(out.Rows), want, r.stdout)
	}
	fields := map[any][]string{
		"decode":   {"path", "transcript", "reader", "ns_per_frame", "gbit_s", "allocs_per_frame", "samples"},
		"requests": {"path", "method", "reader", "drain", "flows", "requests_per_cpu_s", "allocs_per_request", "p50_us", "p99_us", "ratio_to_stock", "samples"},
	}
	for _, row := range out.Rows {
		for _, name := range fields[row["scenario"]] {
			if _, ok := row[name]; !ok {
				t.Errorf("no %s in %v", name, row)
			}
		}
	}
	if !slices.ContainsFunc(out.Rows, func(row map[string]any) bool { return row["ratio_to_http2"] != nil && row["ratio_to_varint"] != nil }) {
		t.Errorf("no ratios in %s", r.stdout)
	}
	if r := runTailfin(t, "bench", "decode", "--transcript", "rumour"); r.code != exitUsage || !strings.Contains(r.stderr, `no transcript "rumour"`) {
		t.Errorf("%+v", r)
	}
}

func TestDecodeTables(t *testing.T) {
	rows := []any{
		decode.Row{Transcript: decode.Small, Reader: decode.Frames, Rounds: 1, NS: 12.5, ToHTTP2: &stat.Ratio{Median: 0.25, Low: 0.2, High: 0.3}},
		decode.Row{Transcript: decode.Small, Reader: decode.HTTP2, Invalid: "http2: 3 units came out"},
		uploads.RequestRow{Base: uploads.Base{Path: netlab.Loopback, Reader: uploads.Stock, Flows: 16}, Method: "GET", PerCPU: 20_000},
		uploads.RequestRow{Base: uploads.Base{Reader: "auto", Skipped: "no socket"}, Method: "GET"},
	}
	var out strings.Builder
	if err := decodeTables(&out, rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12.5", "0.25 (0.20–0.30)", "invalid: http2: 3 units came out", "over loopback", "20000", "skipped: no socket"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
