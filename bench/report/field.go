package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A field says how a field of rows is called and measured.
type field struct {
	name  string // in the JSON
	label string // in tables
	unit  string // as benchstat is to have it; none for what is no measurement
	sign  string // better: lower, higher, or empty
}

// dimensions are the fields that say which cell and contestant a row is of, in the
// order in which they are shown. unit is the key in the name of a benchmark.
var dimensions = []field{
	{name: "path", label: "path", unit: "path"},
	{name: "kind", label: "kind", unit: "kind"},
	{name: "transcript", label: "transcript", unit: "transcript"},
	{name: "direction", label: "direction", unit: "direction"},
	{name: "storage", label: "storage", unit: "storage"},
	{name: "method", label: "method", unit: "method"},
	{name: "sender", label: "sender", unit: "sender"},
	{name: "bottleneck", label: "bottleneck", unit: "bottleneck"},
	{name: "connection", label: "small requests on", unit: "connection"},
	{name: "bulk_offered_gbit_s", label: "bulk offered, Gbit/s", unit: "bulk"},
	{name: "pinned", label: "pinned", unit: "pinned"},
	{name: "sender_segments", label: "segments", unit: "segments"},
	{name: "payload_bytes", label: "payload, bytes", unit: "payload"},
	{name: "flows", label: "flows", unit: "flows"},
	{name: "conns", label: "connections", unit: "conns"},
	{name: "keep_alive_s", label: "PING every, s", unit: "keep_alive"},
	{name: "in_flight", label: "in flight on each", unit: "in_flight"},
	{name: "shards", label: "shards", unit: "shards"},
	{name: "rate", label: "rate, datagrams/s", unit: "rate"},
	{name: "gogc", label: "GOGC", unit: "gogc"},
	{name: "delay_us", label: "delay of close, µs", unit: "delay_us"},
	{name: "reader_delay_us", label: "delay of reader, µs", unit: "reader_delay_us"},
	{name: "gomaxprocs", label: "GOMAXPROCS", unit: "gomaxprocs"},
	{name: "shape", label: "shape", unit: "shape"},
	{name: "close", label: "close", unit: "close"},
	{name: "result", label: "result", unit: "result"},
	{name: "reader", label: "reader", unit: "reader"},
	{name: "drain", label: "drain", unit: "drain"},
}

// figures are the fields that were measured, in the order in which they are shown.
var figures = []field{
	{"cpu_ns_per_datagram", "CPU, ns/datagram", "ns/datagram", "lower"},
	{"cpu_s_per_gb", "CPU, s/GB", "cpu-sec/GB", "lower"},
	{"cpu_us_per_upload", "CPU, µs/upload", "cpu-µs/upload", "lower"},
	{"ns_per_frame", "ns/frame", "ns/frame", "lower"},
	{"bytes_per_connection", "memory, bytes/connection", "B/conn", "lower"},
	{"rss_bytes_per_connection", "resident, bytes/connection", "rss-B/conn", "lower"},
	{"goroutines_per_connection", "goroutines/connection", "goroutines/conn", "lower"},
	{"cpu_us_per_request", "CPU, µs/request", "cpu-µs/request", "lower"},
	{"cpu_us_per_connection_s", "CPU, µs/connection and s", "cpu-µs/conn-sec", "lower"},
	{"requests_per_cpu_s", "requests/CPU s", "requests/cpu-sec", "higher"},
	{"uploads_per_cpu_s", "uploads/CPU s", "uploads/cpu-sec", "higher"},
	{"requests", "requests", "", ""},
	{"whole", "whole", "", ""},
	{"lost", "lost", "", ""},
	{"not_received", "not received by QUIC", "", ""},
	{"unsent", "not sent", "", ""},
	{"loss", "loss", "loss", "lower"},
	{"ratio_to_stock", "to stock", "", ""},
	{"ratio_to_drain_off", "to drain off", "", ""},
	{"ratio_to_mmsg_gro", "to mmsg-gro", "", ""},
	{"ratio_to_c", "to C", "", ""},
	{"ratio_to_c_mmsg", "to C with recvmmsg", "", ""},
	{"ratio_to_varint", "to varints alone", "", ""},
	{"ratio_to_http2", "to HTTP/2's framer", "", ""},
	{"ratio_to_qpack", "to QPACK alone", "", ""},
	{"ratio_to_hpack", "to HPACK", "", ""},
	{"rss_ratio_to_stock", "resident to stock", "", ""},
	{"cpu_ratio_to_stock", "CPU to stock", "", ""},
	{"p50_ratio_to_stock", "p50 to stock", "", ""},
	{"cost_to_one_flow", "cost to one flow's", "", ""},
	{"requests_per_cpu_s_to_stock", "requests/CPU s to stock", "", ""},
	{"uploads_per_cpu_s_to_stock", "uploads/CPU s to stock", "", ""},
	{"gbit_s", "Gbit/s", "Gbit/s", "higher"},
	{"goodput_ratio_to_stock", "goodput to stock", "", ""},
	{"uploads_per_s", "uploads/s", "uploads/sec", "higher"},
	{"requests_per_s", "requests/s", "requests/sec", "higher"},
	{"p50_us", "p50, µs", "p50-µs", "lower"},
	{"p99_us", "p99, µs", "p99-µs", "lower"},
	{"p99_ratio_to_stock", "p99 to stock", "", ""},
	{"allocs_per_datagram", "allocs/datagram", "allocs/datagram", "lower"},
	{"allocs_per_upload", "allocs/upload", "allocs/upload", "lower"},
	{"allocs_per_request", "allocs/request", "allocs/request", "lower"},
	{"allocs_per_frame", "allocs/frame", "allocs/frame", "lower"},
	{"syscalls_per_datagram", "system calls/datagram", "syscalls/datagram", "lower"},
	{"body_bytes_per_datagram", "body bytes/datagram", "B/datagram", ""},
	{"datagrams", "datagrams are counted as", "", ""},
	{"receiver_share", "receiver, of its share", "", ""},
	{"datagrams_per_receive", "datagrams/receive", "datagrams/receive", ""},
	{"coalesced", "trains came whole", "", ""},
	{"cpu_utilization", "of a processor", "cpu-sec/sec", ""},
	{"receiver_utilization", "receiver, of a processor", "receiver-cpu-sec/sec", ""},
	{"sender_utilization", "sender, of a processor", "sender-cpu-sec/sec", ""},
	{"offered_pps", "offered, datagrams/s", "offered/sec", ""},
	{"sent", "sent", "", ""},
	{"received", "received", "", ""},
	{"reordered", "reordered", "", ""},
	{"accounting", "accounts", "", ""},
	{"backend", "backend", "", ""},
	{"rounds", "rounds", "", ""},
	{"minutes", "minutes", "", ""},
	{"every_s", "sampled every, s", "", ""},
	{"requests_done", "requests done", "", ""},
	{"body_bytes", "bytes of bodies", "", ""},
	{"faults", "faults", "", ""},
	{"take_overs", "take-overs", "", ""},
	{"corrupt", "corrupt", "", ""},
	{"crashed", "crashed", "", ""},
	{"leaked", "files left", "", ""},
	{"growing", "series that grow", "", ""},
	{"failed", "failed in faults of the network", "", ""},
	{"unsure", "sent into faults, unsure", "", ""},
	{"base_after_s", "all back after, s", "", ""},
	{"heap_live_bytes", "live heap, bytes", "", ""},
	{"rss_bytes", "resident, bytes", "", ""},
	{"rss_peak_bytes", "resident at most, bytes", "", ""},
	{"goroutines", "goroutines", "", ""},
	{"descriptors", "descriptors", "", ""},
	{"connections_open", "connections", "", ""},
	{"cpu_of_a_processor", "of a processor", "", ""},
	{"samples_missed", "samples missed", "", ""},
}

// notShown are the fields that no table has a column for: ranges, which stand below
// their figures, what is more than a figure, and what is said above the table.
var notShown = []string{"scenario", "samples", "skipped", "invalid", "why", "cpu_ns_low", "cpu_ns_high", "loss_low", "loss_high"}

func fieldIn(list []field, name string) (field, bool) {
	i := slices.IndexFunc(list, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return list[i], true
}

// fieldsOf lists the dimensions and the figures that rows have. A text that is not
// known is a dimension, a number that is not known a figure.
func fieldsOf(rows []Row) (dims, figs []field) {
	have := map[string]bool{}
	for _, r := range rows {
		for name, v := range r {
			switch v.(type) {
			case string, bool, float64:
				have[name] = true
			}
		}
	}
	for _, name := range notShown {
		delete(have, name)
	}
	take := func(known []field) (list []field) {
		for _, f := range known {
			if have[f.name] {
				list = append(list, f)
				delete(have, f.name)
			}
		}
		return list
	}
	dims, figs = take(dimensions), take(figures)
	for _, name := range slices.Sorted(maps.Keys(have)) {
		f := field{name: name, label: strings.ReplaceAll(name, "_", " "), unit: name}
		if isNumber(rows, name) {
			f.unit = strings.ReplaceAll(name, "_per_", "/")
			figs = append(figs, f)
		} else {
			dims = append(dims, f)
		}
	}
	return dims, figs
}

func isNumber(rows []Row, name string) bool {
	for _, r := range rows {
		if v, ok := r[name]; ok {
			_, number := v.(float64)
			return number
		}
	}
	return false
}

// A dimension's value is compared as a number where it is one.
func compareValues(a, b Row, name string) int {
	x, ok := a.Figure(name)
	y, also := b.Figure(name)
	if ok && also {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a.Text(name), b.Text(name))
}

// Number is a figure as people read it: three digits or four, a thousand with a thin
// space to the next.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 1000:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case a >= 0.001:
		return strconv.FormatFloat(v, 'f', 4, 64)
	}
	return fmt.Sprintf("%.2g", v)
}

// grouped sets a number's digits apart by thousands, from five digits on.
func grouped(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	if len(digits) < 5 {
		return sign + digits
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f') // narrow, and no line breaks at it
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// short is a rate or a count as the label of a tick: 20k, 1M.
func short(v float64) string {
	for _, s := range []struct {
		above float64
		sign  string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= s.above {
			return strconv.FormatFloat(v/s.above, 'g', 3, 64) + s.sign
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// contestant is who a row is of.
func contestant(r Row) string {
	reader, drain := r.Text("reader"), r.Text("drain")
	if drain == "" || reader == "stock" || reader == "xnet" {
		return reader
	}
	return reader + ", drain " + drain
}
