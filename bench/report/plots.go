package report

import (
	"math"
	"slices"
	"strings"
)

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
	return append(list, coursePictures(rows)...)
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
