package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/perf/benchfmt"
)

// configuration are the lines of an environment that benchstat shows and compares by,
// and the keys they have there: those of go test where it has them.
var configuration = []struct{ field, key string }{
	{"os", "goos"}, {"arch", "goarch"}, {"cpu", "cpu"}, {"cpus", "cpus"}, {"kernel", "kernel"}, {"go", "go"},
	{"quic_go", "quic-go"}, {"revision", "revision"}, {"backend", "backend"}, {"date", "date"},
}

// Text writes a document as benchstat reads it: a line for each round of a row whose
// samples were kept, and a line of what has no samples. Rows that are not valid are
// left out.
//
//	BenchmarkRecv/path=loopback/pinned=yes/segments=16/reader=auto-2 1 171 ns/datagram
func Text(w io.Writer, d *Document) error {
	if _, err := io.WriteString(w, units(d)); err != nil {
		return err
	}
	out := benchfmt.NewWriter(w)
	var config []benchfmt.Config
	for _, c := range configuration {
		if v := oneLine(Row(d.Environment).Text(c.field)); v != "" {
			config = append(config, benchfmt.Config{Key: c.key, Value: []byte(v), File: true})
		}
	}
	if d.Seed != 0 {
		config = append(config, benchfmt.Config{Key: "seed", Value: fmt.Append(nil, d.Seed), File: true})
	}
	processors := Row(d.Environment).Text("gomaxprocs")
	for _, scenario := range d.Scenarios() {
		rows := d.Of(scenario)
		dims, figs := fieldsOf(rows)
		for _, row := range rows {
			if !row.Valid() {
				continue
			}
			name := benchmarkName(scenario, row, dims)
			// Always there: a value that ends in a number would be taken for it.
			name += "-" + cmp.Or(processors, "1")
			for _, values := range lines(row, figs) {
				if err := out.Write(&benchfmt.Result{Config: config, Name: benchfmt.Name(name), Iters: 1, Values: values}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// units says which way of each unit is better.
func units(d *Document) string {
	var b strings.Builder
	said := map[string]bool{}
	for _, f := range figures {
		has := func(r Row) bool { _, ok := r.Figure(f.name); return ok }
		if f.unit != "" && f.sign != "" && !said[f.unit] && slices.ContainsFunc(d.Rows, has) {
			said[f.unit] = true
			fmt.Fprintf(&b, "Unit %s better=%s\n", f.unit, f.sign)
		}
	}
	return b.String()
}

// lines has the values of each line of a row.
func lines(row Row, figs []field) [][]benchfmt.Value {
	var byRound [][]benchfmt.Value
	var single []benchfmt.Value
	for _, f := range figs {
		v, ok := row.Figure(f.name)
		samples := row.Samples(f.name)
		if f.unit == "" || !ok && len(samples) == 0 {
			continue
		}
		if len(samples) == 0 {
			single = append(single, benchfmt.Value{Value: v, Unit: f.unit})
		}
		for i, s := range samples {
			if i == len(byRound) {
				byRound = append(byRound, nil)
			}
			byRound[i] = append(byRound[i], benchfmt.Value{Value: s, Unit: f.unit})
		}
	}
	if len(single) > 0 {
		byRound = append(byRound, single)
	}
	return byRound
}

// benchmarkName is that of a row: what varies is in it as key=value, so that benchstat
// can put any of it in columns (-col /reader).
func benchmarkName(scenario string, row Row, dims []field) string {
	var b strings.Builder
	first, rest := []rune(scenario)[0], string([]rune(scenario)[1:])
	b.WriteRune(unicode.ToUpper(first))
	b.WriteString(word(rest))
	for _, f := range dims {
		v := plain(row, f.name)
		if f.name == "rate" && v == "0" {
			v = "max"
		}
		if v != "" {
			fmt.Fprintf(&b, "/%s=%s", word(f.unit), word(v))
		}
	}
	return b.String()
}

// plain is a dimension without a space between thousands.
func plain(r Row, name string) string {
	if v, ok := r.Figure(name); ok {
		return fmt.Sprintf("%.15g", v)
	}
	return r.Text(name)
}

// word makes a value fit into a benchmark's name, where a space ends the name and a
// slash the part.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '/' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
