package report

import (
	"cmp"
	_ "embed" // the page's parts
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// environmentLabels are the fields of an environment with what a page calls them, in
// the page's order. Others follow by their own names.
var environmentLabels = [][2]string{
	{"date", "Date"}, {"version", "Tailfin"}, {"revision", "Revision"}, {"revision_modified", "Uncommitted changes"},
	{"kernel", "Kernel"}, {"os", "System"}, {"arch", "Architecture"}, {"cpu", "Processor"}, {"cpus", "Processors"}, {"cpu_governor", "Governor"},
	{"virtualisation", "Virtualisation"}, {"memory_bytes", "Memory, bytes"}, {"meltdown", "Meltdown"}, {"clock_source", "Clock"}, {"load_average", "Load before"},
	{"go", "Go"}, {"gomaxprocs", "GOMAXPROCS"}, {"gogc", "GOGC"}, {"gomemlimit", "GOMEMLIMIT"}, {"quic_go", "quic-go"}, {"x_net", "x/net"}, {"iouring_go", "iouring-go"},
	{"backend", "Backend of auto"}, {"backend_reason", "because"}, {"io_uring", "io_uring works"}, {"io_uring_blocker", "io_uring is blocked by"}, {"gro", "GRO"}, {"gso", "GSO"}, {"ecn", "ECN"},
	{"rlimit_nofile", "Open files, limit"}, {"rmem_max", "rmem_max"}, {"rmem_default", "rmem_default"}, {"wmem_max", "wmem_max"}, {"wmem_default", "wmem_default"},
	{"netdev_max_backlog", "netdev_max_backlog"}, {"read_buffer", "Receive buffer got"},
}

// A page is what page.html is filled with.
type page struct {
	Style       template.CSS
	Summary     string
	Command     string
	Warnings    []string
	Environment [][2]string
	Verdicts    []Verdict
	Count       map[string]int
	Reached     bool
	Sections    []section
}

type section struct {
	ID, Title, About string
	Constant         string // what is the same for all rows
	Figures          []figureView
	Table            table
}

type figureView struct {
	Title, About, Ranges string
	Keys                 []keyView
	Panels               []panelView
	Folded               bool // below the first of its kind
}

type keyView struct {
	Name string
	SVG  template.HTML
}

type panelView struct {
	Title string
	SVG   template.HTML
}

type table struct {
	Caption string
	Heads   []cellView
	Rows    []tableRow
}

type tableRow struct {
	Cells   []cellView
	Trouble string
	Span    int
}

type cellView struct {
	Text, Range string
	Head        bool
}

// HTML writes the page of a document, with the verdicts of a check if there are any.
func HTML(w io.Writer, d *Document, verdicts []Verdict) error {
	t, err := template.New("page").Funcs(template.FuncMap{"mark": mark}).Parse(pageText)
	if err != nil {
		return err
	}
	env := Row(d.Environment)
	p := page{
		Style: template.CSS(pageStyle), //nolint:gosec // ours
		Summary: strings.Join(slices.DeleteFunc([]string{env.Text("date"), "Linux " + env.Text("kernel"), env.Text("cpus") + " × " + cmp.Or(env.Text("cpu"), env.Text("arch")),
			env.Text("go"), "quic-go " + env.Text("quic_go"), "seed " + strconv.FormatUint(d.Seed, 10)}, func(s string) bool { return s == "" }), " · "),
		Warnings: d.Warnings, Environment: environment(d.Environment),
		Verdicts: verdicts, Reached: Reached(verdicts), Count: map[string]int{},
	}
	for _, r := range []string{Pass, Short, Missing} {
		p.Count[r] = Count(verdicts, r)
	}
	look := styles(d)
	for _, scenario := range d.Scenarios() {
		s, err := makeSection(d, scenario, look)
		if err != nil {
			return fmt.Errorf("plot %s: %w", scenario, err)
		}
		p.Sections = append(p.Sections, s)
	}
	return t.Execute(w, p)
}

// mark is a sign beside the word of a result, which does not need its colour.
func mark(result string) string {
	return map[string]string{Pass: "✓", Short: "✗", Missing: "?"}[result]
}

func environment(e map[string]any) [][2]string {
	var list [][2]string
	rest := maps.Clone(e)
	for _, l := range environmentLabels {
		if v := Row(e).Text(l[0]); v != "" {
			list = append(list, [2]string{l[1], v})
		}
		delete(rest, l[0])
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if v := Row(e).Text(name); v != "" {
			list = append(list, [2]string{strings.ReplaceAll(name, "_", " "), v})
		}
	}
	return list
}

func makeSection(d *Document, scenario string, look map[string]style) (section, error) {
	title, about := d.heading(scenario)
	s := section{ID: "s-" + word(scenario), Title: title, About: about}
	rows := d.Of(scenario)
	s.Table, s.Constant = makeTable(rows, title)
	shown := map[string]bool{}
	for i, pic := range pictures(d, scenario, look) {
		kind, _, _ := strings.Cut(pic.title, ": ")
		f := figureView{Title: pic.title, About: pic.about, Folded: shown[kind]}
		shown[kind] = true
		if pic.ranges && scenario != "closerace" {
			f.Ranges = "Whiskers reach from the lowest round to the highest; marks and bars are medians."
			if !pic.bars {
				f.Ranges = "Whiskers reach from the lowest round to the highest; marks are medians."
			}
		}
		for _, name := range pic.series {
			key, err := look[name].key(pic.bars)
			if err != nil {
				return s, err
			}
			f.Keys = append(f.Keys, keyView{name, template.HTML(key)}) //nolint:gosec // drawn, see embed
		}
		for j, p := range pic.panels {
			svg, err := p.svg(fmt.Sprintf("%s-%d-%d", s.ID, i, j), strings.TrimPrefix(pic.title+", "+p.title, ", "))
			if err != nil {
				return s, err
			}
			f.Panels = append(f.Panels, panelView{p.title, template.HTML(svg)}) //nolint:gosec // drawn, and its texts are escaped
		}
		s.Figures = append(s.Figures, f)
	}
	return s, nil
}

// makeTable has all rows, those that are not valid too, and says apart what is the
// same in all.
func makeTable(rows []Row, title string) (table, string) {
	all, figs := fieldsOf(rows)
	var dims []field
	var constant []string
	for _, f := range all {
		switch f.name {
		case "reader", "drain":
			dims = append(dims, f)
			continue
		}
		if v := values(rows, f.name); len(v) == 1 && len(rows) > 1 && inAll(rows, f.name) {
			constant = append(constant, dimension(v[0], f))
		} else {
			dims = append(dims, f)
		}
	}
	t := table{Caption: title + ": all rows"}
	for i, f := range append(slices.Clone(dims), figs...) {
		t.Heads = append(t.Heads, cellView{Text: f.label, Head: i < len(dims)})
	}
	for _, r := range rows {
		row := tableRow{Trouble: r.Trouble(), Span: len(figs)}
		for _, f := range dims {
			text := r.Text(f.name)
			if f.name == "rate" && text == "0" {
				text = "max"
			}
			row.Cells = append(row.Cells, cellView{Text: text, Head: true})
		}
		has := false
		for _, f := range figs {
			c := cellView{Text: r.Text(f.name), Range: rangeText(r, f.name)}
			if _, figure := r.Figure(f.name); figure && f.unit != "" {
				has = true
			}
			row.Cells = append(row.Cells, c)
		}
		if row.Trouble != "" && !has {
			row.Cells = row.Cells[:len(dims)] // nothing to show but the reason
		} else if row.Trouble != "" {
			row.Span = 0
		}
		t.Rows = append(t.Rows, row)
	}
	return t, capital(strings.Join(constant, ", "))
}

func inAll(rows []Row, name string) bool {
	return !slices.ContainsFunc(rows, func(r Row) bool { return r[name] == nil })
}

// rangeText is the range of a figure as a table has it.
func rangeText(r Row, name string) string {
	if low, high, ok := Range(r, name); ok {
		return Number(low) + "–" + Number(high)
	}
	return ""
}
