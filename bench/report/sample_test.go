package report

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sample is a document of all scenarios: runs that were made, and rows as the others
// have them.
func sample(t *testing.T) *Document {
	t.Helper()
	d, err := ReadFiles("testdata/recv.json", "testdata/transfer.json", "testdata/uploads.json")
	if err != nil {
		t.Fatal(err)
	}
	rows := made()
	d.Rows = append(d.Rows, rows...)
	return d
}

// made has rows of scenarios with what they may have: samples, intervals, rows that are
// skipped and rows that are not valid.
func made() []Row {
	rng := rand.New(rand.NewPCG(1, 2))
	samples := func(figure string, median float64) map[string]any {
		var list []any
		for range 5 {
			list = append(list, median*(0.9+0.2*rng.Float64()))
		}
		list[2] = median
		return map[string]any{figure: list}
	}
	var rows []Row
	// Flows and trains over another path, so that figures are split and folded.
	for _, flows := range []float64{1, 256} {
		for _, segments := range []float64{1, 16, 44} {
			for _, rate := range []float64{1000, 100000, 0} {
				for i, reader := range []string{"stock", "mmsg-gro", "uring-gro", "auto", "c"} {
					offered := rate
					if rate == 0 {
						offered = 900_000 * (1 + segments/20)
					}
					cpu := 16000 / (1 + offered/1e5) / segments * (1 + float64(5-i)/5) * (1 + flows/2000)
					r := Row{
						"scenario": "recv", "path": "veth", "reader": reader, "pinned": true, "sender_segments": segments, "payload_bytes": 1252.0, "flows": flows, "rate": rate,
						"offered_pps": offered, "cpu_ns_per_datagram": cpu, "ratio_to_stock": 0.3, "accounting": "exact", "rounds": 5.0,
						"samples": samples("cpu_ns_per_datagram", cpu),
					}
					if rate > 0 {
						r["p50_us"], r["p99_us"] = 30+flows/4, 90+flows/2
					}
					switch {
					case reader == "c" && flows == 256:
						r = Row{"scenario": "recv", "path": "veth", "reader": reader, "pinned": true, "sender_segments": segments, "payload_bytes": 1252.0, "flows": flows, "rate": rate,
							"skipped": "no liburing: <install> liburing-dev & gcc"}
					case reader == "mmsg-gro" && segments == 16 && flows == 256:
						r["invalid"] = "trains were sent and did not come as trains"
					}
					rows = append(rows, r)
				}
			}
		}
	}
	receivers := []Row{{"reader": "stock", "drain": "off"}, {"reader": "auto", "drain": "off"}, {"reader": "auto", "drain": "on"}}
	row := func(of Row, with Row) Row {
		r := Row{}
		for _, m := range []Row{of, with} {
			for k, v := range m {
				r[k] = v
			}
		}
		return r
	}
	for i, receiver := range receivers {
		for _, flows := range []float64{1, 16, 256} {
			for _, shards := range []float64{1, 2, 4} {
				cpu := (3.5 - float64(i)*0.6) * (1 + flows/1500) * (1 + shards/30)
				for _, pinned := range []bool{true, false} {
					if pinned && shards > 1 {
						continue
					}
					rows = append(rows, row(receiver, Row{"scenario": "transfer", "path": "veth", "kind": "bulk", "direction": "upload", "sender": "quic-go", "bottleneck": "none", "flows": flows, "shards": shards, "pinned": pinned, "rounds": 5.0,
						"cpu_s_per_gb": cpu, "gbit_s": 8 / cpu, "ratio_to_stock": cpu / 3.5, "samples": samples("cpu_s_per_gb", cpu)}))
				}
			}
			rows = append(rows, row(receiver, Row{"scenario": "transfer", "path": "veth", "kind": "latency", "direction": "upload", "sender": "quic-go", "bottleneck": "none", "connection": "same", "bulk_offered_gbit_s": 0.5, "flows": flows, "shards": 1.0, "pinned": true,
				"p50_us": 300 + 40*flows, "p99_us": 900 + 100*flows}))
			rows = append(rows, row(receiver, Row{"scenario": "requests", "path": "loopback", "method": "POST", "flows": flows, "requests_per_cpu_s": 20000 + 3000*float64(i) - flows, "requests_per_cpu_s_to_stock": 1.1, "allocs_per_request": 41.3,
				"p50_us": 400.0, "p99_us": 2100.0, "samples": samples("requests_per_cpu_s", 20000+3000*float64(i)-flows)}))
		}
		for _, conns := range []float64{1000, 10000} {
			rows = append(rows, row(receiver, Row{"scenario": "idle", "path": "loopback", "conns": conns, "bytes_per_connection": 61234.0 + 900*float64(i), "rss_bytes_per_connection": 78000.0, "goroutines_per_connection": 3.0, "ratio_to_stock": 1 + 0.01*float64(i),
				"samples": samples("bytes_per_connection", 61234.0+900*float64(i))}))
		}
	}
	for _, direction := range []string{"upload", "download"} {
		for _, size := range []float64{100, 9000, 200000} {
			for _, delay := range []float64{0, 10, 1000} {
				for _, slow := range []float64{0, 5000} {
					if slow > 0 && direction == "download" {
						continue
					}
					for i, receiver := range append(receivers[:1:1], Row{"reader": "xnet", "drain": "off"}, Row{"reader": "auto", "drain": "on"}) {
						lost := []float64{4300, 1200, 0}[i] / (1 + delay/300)
						rows = append(rows, row(receiver, Row{"scenario": "closerace", "path": "loopback", "direction": direction, "payload_bytes": size, "delay_us": delay, "reader_delay_us": slow, "requests": 5000.0,
							"whole": 5000 - lost, "lost": lost, "not_received": 0.0, "unsent": 0.0, "loss": lost / 5000, "loss_low": max(0, lost/5000-0.013), "loss_high": min(1, lost/5000+0.013)}))
					}
				}
			}
		}
	}
	for _, transcript := range []string{"one upload of 1 MiB", "1000 small requests", "grease and trailers"} {
		for reader, ns := range map[string]float64{"varint": 9.1, "h3frame": 21.7, "http2": 48} {
			rows = append(rows, Row{"scenario": "decode", "transcript": transcript, "reader": reader, "ns_per_frame": ns * float64(len(transcript)) / 18, "gbit_s": 80.0, "allocs_per_frame": 0.0, "ratio_to_varint": ns / 9.1,
				"samples": samples("ns_per_frame", ns*float64(len(transcript))/18)})
		}
	}
	rows = append(rows, soaked(rng))
	rows = append(rows, Row{"scenario": "later", "flavour": "<b>new</b>", "goats_per_s": 3.5})
	return rows
}

// soaked is the row of an hour's soak, with two take-overs.
func soaked(rng *rand.Rand) Row {
	samples := map[string]any{"take_over_s": []any{600.0, 1200.0}}
	add := func(name string, v float64) {
		list, _ := samples[name].([]any)
		samples[name] = append(list, v)
	}
	for i := range 720 {
		add("time_s", float64(5*i+5))
		add("heap_live_bytes", 14e6*(0.8+0.4*rng.Float64()))
		add("rss_bytes", 61e6*(0.95+0.1*rng.Float64()))
		add("goroutines", float64(320+rng.IntN(60)))
		add("descriptors", float64(41+rng.IntN(9)))
		add("connections_open", float64(70+rng.IntN(20)))
	}
	return Row{
		"scenario": "soak", "path": "wire", "reader": "uring", "result": "pass", "minutes": 60.0, "every_s": 5.0, "requests_done": 312345.0, "lost": 0.0, "corrupt": 0.0, "crashed": 0.0,
		"heap_live_bytes": 14e6, "rss_bytes": 61e6, "goroutines": 350.0, "descriptors": 45.0, "connections_open": 80.0, "samples": samples,
		"schedule": []any{map[string]any{"at_s": 20.0, "kind": "loss"}}, "levels": []any{map[string]any{"name": "goroutines", "result": "level"}},
	}
}

// verdicts are some of each result.
func verdicts() []Verdict {
	v := func(result string, figure float64, found, why string) Verdict {
		return Verdict{Name: "recv-" + result, Scenario: "recv", Text: fmt.Sprintf("Auto takes at most 0.27 of stock's processor time a datagram (%s)", result), Bound: "≤ 0.27", Result: result, Figure: &figure, Found: found, Why: why}
	}
	aim := v(Short, 0.63, "0.63", "above the bound")
	aim.Aim = true
	return []Verdict{v(Pass, 0.25, "0.25 (0.24–0.27)", ""), v(Short, 0.31, "0.31 (0.28–0.36)", "above the bound by 15 %"), v(Missing, 0, "", "no valid row: trains were sent and did not come as trains"), aim}
}
