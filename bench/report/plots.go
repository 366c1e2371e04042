package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
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
func kind(k string) func(Row) bool {
	return func(r Row) bool { return r.Text("kind") == k || k == "bulk" && r.Text("kind") == "" }
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
		x: "flows", xLabel: xFlows, category: true, bars: true, only: kind("bulk"),
	},
	{
		scenario: "transfer", title: "Processor time by shards",
		about:   "The same, by the number of sockets that share a port.",
		figures: []string{"cpu_s_per_gb", "gbit_s"}, label: []string{"CPU s per GB", "Gbit/s"},
		x: "shards", xLabel: "shards", category: true, bars: true, only: kind("bulk"), many: true,
	},
	{
		scenario: "transfer", title: "Latency of small requests beside a bulk stream",
		about:   "From a request's begin to its whole answer, at the sender.",
		figures: []string{"p50_us", "p99_us"}, label: []string{"median, µs", "99th percentile, µs"},
		x: "flows", xLabel: xFlows, category: true, bars: true, only: kind("latency"),
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

// A picture is a figure of the page: panels with a common legend.
type picture struct {
	title, about string
	panels       []*panel
	series       []string
	bars         bool
	ranges       bool
}

// pictures makes the figures that a scenario's rows have values for.
func pictures(d *Document, scenario string, look map[string]style) []picture {
	rows := slices.DeleteFunc(slices.Clone(d.Of(scenario)), func(r Row) bool { return !r.Valid() })
	var list []picture
	for _, s := range specs {
		if s.scenario != scenario {
			continue
		}
		use := slices.Clone(rows)
		use = slices.DeleteFunc(use, func(r Row) bool {
			return s.only != nil && !s.only(r) || s.x != "" && r[s.x] == nil ||
				!slices.ContainsFunc(s.figures, func(f string) bool { v, ok := r.Figure(f); return ok && (v > 0 || !s.logY) })
		})
		if len(use) == 0 || s.many && len(values(use, s.x)) < 2 {
			continue
		}
		for _, part := range s.split(use) {
			list = append(list, s.picture(part, look))
		}
	}
	return list
}

// A facet is a part of a scenario's rows, and what tells it from others.
type facet struct {
	name string
	rows []Row
}

// split has a facet for each combination of the dimensions that the spec does not use.
func (s *spec) split(rows []Row) []facet {
	dims, _ := fieldsOf(rows)
	var by []field
	for _, f := range dims {
		used := f.name == s.x || f.name == s.by || f.name == "reader" || f.name == "drain" ||
			s.x == "offered_pps" && f.name == "rate"
		if !used && len(values(rows, f.name)) > 1 {
			by = append(by, f)
		}
	}
	var list []facet
	for _, r := range rows {
		name := cell(r, by)
		i := slices.IndexFunc(list, func(f facet) bool { return f.name == name })
		if i < 0 {
			i = len(list)
			list = append(list, facet{name: name})
		}
		list[i].rows = append(list[i].rows, r)
	}
	return list
}

// Cell says where in its scenario's matrix a row stands, in the dimensions in which rows
// differ; but for those that are left out.
func Cell(r Row, rows []Row, without ...string) string {
	dims, _ := fieldsOf(rows)
	dims = slices.DeleteFunc(dims, func(f field) bool {
		return r[f.name] == nil || slices.Contains(without, f.name) || len(values(rows, f.name)) < 2
	})
	return cell(r, dims)
}

// cell names the values of some dimensions.
func cell(r Row, dims []field) string {
	var parts []string
	for _, f := range dims {
		parts = append(parts, dimension(r, f))
	}
	return strings.Join(parts, ", ")
}

// dimension is a dimension with its value, as in a sentence.
func dimension(r Row, f field) string {
	v := r.Text(f.name)
	switch f.name {
	case "path", "direction", "method", "transcript", "kind", "reader":
		return v
	case "pinned":
		return map[string]string{"yes": "pinned", "no": "not pinned"}[v]
	case "payload_bytes":
		return v + " bytes"
	case "rate":
		if v == "0" {
			return "as fast as it can"
		}
		return v + " datagrams/s"
	case "flows", "shards", "conns":
		one := map[string]string{"flows": "flow", "shards": "shard", "conns": "connection"}[f.name]
		if v == "1" {
			return "1 " + one
		}
		return v + " " + one + "s"
	case "sender_segments":
		if v == "1" {
			return "no trains"
		}
		return "trains of " + v
	case "delay_us":
		return "closed after " + v + " µs"
	case "reader_delay_us":
		if v == "0" {
			return "reader at once"
		}
		return "reader after " + v + " µs"
	}
	return f.label + " " + v
}

// values lists those of a field, sorted.
func values(rows []Row, name string) []Row {
	var list []Row
	for _, r := range rows {
		if r[name] == nil {
			continue
		}
		if !slices.ContainsFunc(list, func(o Row) bool { return compareValues(r, o, name) == 0 }) {
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Row) int { return compareValues(a, b, name) })
	return list
}

func (s *spec) picture(part facet, look map[string]style) picture {
	pic := picture{title: s.title, about: s.about, bars: s.bars}
	if part.name != "" {
		pic.title += ": " + part.name
	}
	panels := []Row{nil}
	byField, _ := fieldIn(dimensions, s.by)
	if s.by != "" {
		panels = values(part.rows, s.by)
	}
	for _, of := range panels {
		for i, figure := range s.figures {
			p := &panel{bars: s.bars, x: axis{label: s.xLabel, log: s.logX, exact: s.logX && s.x != "offered_pps"}, y: axis{label: s.label[i], log: s.logY}}
			rows := part.rows
			if of != nil {
				p.title = capital(dimension(of, byField))
				rows = slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r[s.by] == nil || compareValues(r, of, s.by) != 0 })
			}
			if len(s.figures) > 1 {
				p.title = strings.TrimPrefix(p.title+", "+strings.TrimSuffix(s.label[i], " (log)"), ", ")
			}
			s.fill(p, rows, figure, look)
			if len(p.series) == 0 {
				continue
			}
			pic.panels = append(pic.panels, p)
			for _, one := range p.series {
				if !slices.Contains(pic.series, one.name) {
					pic.series = append(pic.series, one.name)
				}
				pic.ranges = pic.ranges || slices.ContainsFunc(one.points, func(v point) bool { return v.high > v.low })
			}
		}
	}
	if s.shared {
		share(pic.panels)
	}
	return pic
}

// fill gives a panel its series.
func (s *spec) fill(p *panel, rows []Row, figure string, look map[string]style) {
	var marks []Row
	if s.category {
		if marks = values(rows, s.x); s.x == "" {
			marks = []Row{{}}
		}
		for _, m := range marks {
			p.x.categories = append(p.x.categories, category(m, s.x))
		}
	}
	for _, r := range rows {
		y, ok := r.Figure(figure)
		if !ok || s.logY && y <= 0 {
			continue
		}
		x, _ := r.Figure(s.x)
		if s.category && s.x != "" {
			x = float64(slices.IndexFunc(marks, func(m Row) bool { return compareValues(m, r, s.x) == 0 }))
		} else if s.logX && x <= 0 {
			continue
		}
		low, high := spread(r, figure)
		name := contestant(r)
		i := slices.IndexFunc(p.series, func(o series) bool { return o.name == name })
		if i < 0 {
			i = len(p.series)
			p.series = append(p.series, series{name: name, style: look[name]})
		}
		p.series[i].points = append(p.series[i].points, point{x, y, low, high})
	}
	for _, one := range p.series {
		slices.SortFunc(one.points, func(a, b point) int {
			if a.x < b.x {
				return -1
			}
			return 1
		})
	}
}

func category(r Row, name string) string {
	if v, ok := r.Figure(name); ok {
		if v >= 1e4 {
			return short(v)
		}
		return Number(v)
	}
	return r.Text(name)
}

// spread is the range of a figure: that of its rounds, or the interval that a row
// gives; NaN if there is none.
func spread(r Row, figure string) (low, high float64) {
	if s := r.Samples(figure); len(s) > 1 {
		return slices.Min(s), slices.Max(s)
	}
	lowField, highField := figure+"_low", figure+"_high"
	if figure == "cpu_ns_per_datagram" {
		lowField, highField = "cpu_ns_low", "cpu_ns_high"
	}
	low, ok := r.Figure(lowField)
	high, also := r.Figure(highField)
	if !ok || !also {
		return math.NaN(), math.NaN()
	}
	return low, high
}

// share gives panels the y axis that has room for all of them.
func share(panels []*panel) {
	low, high := math.Inf(1), 0.0
	for _, p := range panels {
		l, h := rangeOf(p.series, func(v point) []float64 { return []float64{v.y, v.low, v.high} }, p.y.log)
		low, high = min(low, l), max(high, h)
	}
	for _, p := range panels {
		p.y.low, p.y.high = low, high
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Title of a scenario, and what it is about.
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
	case "racematrix":
		return "The close race, by shape", "Messages that had arrived whole when the connection was closed, and what the application got of them."
	}
	return capital(scenario), fmt.Sprintf("Rows of the scenario %s.", scenario)
}
