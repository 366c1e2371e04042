package report

import (
	"fmt"
	"slices"
)

// A spec says what is plotted of a scenario: a figure for each combination of the
// dimensions that are neither along an axis nor in a panel of their own.
type spec struct {
	scenario string
	title    string
	about    string   // what to look for
	figures  []string // fields, with a panel each
	label    []string // of the y axis, for each figure
	x        string   // field along the x axis; a number unless category is set
	xLabel   string
	category bool
	logX     bool
	logY     bool
	by       string // dimension with a panel for each value, or empty
	bars     bool
	shared   bool // all panels of a figure have the same y axis
	only     func(Row) bool
	many     bool // only where x has more than one value
}

func saturated(r Row) bool { rate, ok := r.Figure("rate"); return ok && rate == 0 }
func paced(r Row) bool     { return !saturated(r) }

// kind is that of transfer's rows.
func kind(k string) func(Row) bool { return func(r Row) bool { return r.Text("kind") == k } }

// cost is of transfer's rows where nothing holds a receiver back but its own cost, and
// foreign of those with a peer that is not quic-go's.
func cost(direction string, foreign bool) func(Row) bool {
	return func(r Row) bool {
		return r.Text("kind") == "bulk" && r.Text("bottleneck") == "none" && r.Text("direction") == direction && (r.Text("sender") != "quic-go") == foreign
	}
}

// one is what has a figure of 1.
func one(figure string) func(Row) bool {
	return func(r Row) bool { n, _ := r.Figure(figure); return n == 1 }
}

// either is what one of some is.
func either(of ...func(Row) bool) func(Row) bool {
	return func(r Row) bool { return slices.ContainsFunc(of, func(f func(Row) bool) bool { return f(r) }) }
}

const (
	xRate  = "datagrams a second, offered (log)"
	xFlows = "connections"
)

// specs are all plots, in the order in which a page has them.
var specs = []spec{
	{
		scenario: "recv", title: "CPU per datagram by rate",
		about:   "Processor time of the receiver's process, user and system, a datagram. The rightmost mark of each reader is where the sender sends as fast as it can.",
		figures: []string{"cpu_ns_per_datagram"}, label: []string{"ns per datagram (log)"},
		x: "offered_pps", xLabel: xRate, logX: true, logY: true, by: "sender_segments", shared: true,
	},
	{
		scenario: "recv", title: "CPU per datagram by size of train",
		about:   "The sender sends as fast as it can, in trains of so many datagrams by GSO.",
		figures: []string{"cpu_ns_per_datagram"}, label: []string{"ns per datagram (log)"},
		x: "sender_segments", xLabel: "datagrams that are sent at once (log)", logX: true, logY: true, by: "flows", shared: true, only: saturated, many: true,
	},
	{
		scenario: "recv", title: "Latency by rate",
		about:   "From the sender's clock to the return of the read, for the oldest datagram of each batch.",
		figures: []string{"p50_us", "p99_us"}, label: []string{"median, µs (log)", "99th percentile, µs (log)"},
		x: "rate", xLabel: "datagrams a second, asked for (log)", logX: true, logY: true, by: "sender_segments", only: paced,
	},
	{
		scenario: "transfer", title: "Uploads: processor time and throughput",
		about:   "Processor time of the receiver's process by 10⁹ bytes of bodies, and bytes of bodies a second.",
		figures: []string{"cpu_s_per_gb", "gbit_s"}, label: []string{"CPU s per GB", "Gbit/s"},
		x: "flows", xLabel: xFlows, category: true, bars: true, by: "path", only: func(r Row) bool {
			return cost("upload", false)(r) && one("shards")(r) && r.Text("reader") != "ngtcp2"
		},
	},
	{
		scenario: "transfer", title: "Throughput where the receiver is the bottleneck",
		about:   "The receiver has a part of a processor, the same for all; beside it run processes that never rest.",
		figures: []string{"gbit_s"}, label: []string{"Gbit/s"},
		x: "flows", xLabel: xFlows, category: true, bars: true, by: "path", only: func(r Row) bool { return r.Text("bottleneck") == "receiver" },
	},
	{
		scenario: "transfer", title: "Processor time by shards",
		about:   "The same, by the number of sockets that share a port; on any processor.",
		figures: []string{"cpu_s_per_gb", "gbit_s"}, label: []string{"CPU s per GB", "Gbit/s"},
		x: "shards", xLabel: "shards", category: true, bars: true, by: "flows", only: func(r Row) bool { return cost("upload", false)(r) && r.Text("pinned") == "no" }, many: true,
	},
	{
		scenario: "transfer", title: "Downloads, and peers that are not quic-go's",
		about:   "Processor time of the process that receives: a client that downloads, by its server, and a server that is sent to by ngtcp2's client.",
		figures: []string{"cpu_s_per_gb"}, label: []string{"CPU s per GB"},
		x: "sender", xLabel: "sender", category: true, bars: true, by: "direction", only: either(cost("download", false), cost("download", true), func(r Row) bool { return cost("upload", true)(r) && r.Text("sender") == "ngtcp2" }),
	},
	{
		scenario: "transfer", title: "Latency of small requests beside a bulk stream",
		about:   "From a request's begin to its whole answer, at the sender.",
		figures: []string{"p50_us", "p99_us"}, label: []string{"median, µs", "99th percentile, µs"},
		x: "bulk_offered_gbit_s", xLabel: "bulk, Gbit/s (0: all it can)", category: true, bars: true, by: "connection", only: kind("latency"),
	},
	{
		scenario: "requests", title: "Requests with tiny bodies",
		about:   "Requests that a second of the receiver's processor time serves, and how long each takes.",
		figures: []string{"requests_per_cpu_s", "p50_us", "p99_us"}, label: []string{"requests per CPU s", "median, µs", "99th percentile, µs"},
		x: "flows", xLabel: xFlows, category: true, bars: true,
	},
	{
		scenario: "uploads", title: "Small uploads by what stores them",
		about:   "Uploads that a second of the receiver's processor time stores, and how long each takes.",
		figures: []string{"uploads_per_cpu_s", "p50_us", "p99_us"}, label: []string{"uploads per CPU s", "median, µs", "99th percentile, µs"},
		x: "storage", xLabel: "storage", category: true, bars: true,
	},
	{
		scenario: "idle", title: "Memory of an idle connection",
		about:   "What the receiver's process has more of, by connections that do nothing.",
		figures: []string{"bytes_per_connection", "rss_bytes_per_connection"}, label: []string{"bytes of heap and stacks", "bytes resident"},
		x: "conns", xLabel: xFlows, category: true, bars: true,
	},
	{
		scenario: "closerace", title: "Loss at close by delay",
		about:   "Share of messages that arrived whole and did not reach the application whole, when the connection is closed so long after the last byte. Whiskers are 95 % intervals.",
		figures: []string{"loss"}, label: []string{"share lost"},
		x: "delay_us", xLabel: "µs from FIN to CONNECTION_CLOSE", category: true, by: "payload_bytes", shared: true,
	},
	{
		scenario: "closerace", title: "Loss at close by size",
		about:   "The same, by the size of the body. Whiskers are 95 % intervals.",
		figures: []string{"loss"}, label: []string{"share lost"},
		x: "payload_bytes", xLabel: "bytes of body", category: true, by: "delay_us", shared: true, many: true,
	},
	{
		scenario: "decode", title: "Decoding a frame",
		about:   "One thread, from memory. Reading the varints alone is the floor; HTTP/2's framer has a fixed header instead.",
		figures: []string{"ns_per_frame"}, label: []string{"ns per frame"},
		x: "", xLabel: "decoder", category: true, by: "transcript", bars: true,
	},
}

// heading is the title of a scenario, and what it is about.
func (d *Document) heading(scenario string) (title, about string) {
	switch scenario {
	case "recv":
		return "Receiving datagrams", "What it costs to receive UDP datagrams, by reader. No QUIC is in it."
	case "transfer":
		return "Transfer", "What it costs to receive uploads over HTTP/3, end to end: QUIC, HTTP/3 and a handler that reads bodies and throws them away."
	case "requests":
		return "Requests", "Requests with tiny bodies that a server answers."
	case "uploads":
		return "Small uploads", "What it costs to receive small uploads over HTTP/3 and to store them."
	case "idle":
		return "Idle connections", "The memory of connections that do nothing."
	case "closerace":
		return "The close race", "A sender ends its stream (FIN) and closes the connection. What had arrived by then is the application's; what of it does not get there is lost."
	case "decode":
		return "Decoding frames", "HTTP/3's frames, taken apart in memory."
	case "soak":
		return "Soak", "A receiver under a mixed load with random faults: nothing may be lost, and nothing may grow. A figure is the median over time, and what is beside it the lowest and the highest sample."
	case "racematrix":
		return "The close race, by shape", "Messages that had arrived whole when the connection was closed, and what the application got of them."
	}
	return capital(scenario), fmt.Sprintf("Rows of the scenario %s.", scenario)
}
