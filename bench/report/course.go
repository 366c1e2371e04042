package report

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg/draw"
)

// The samples that say when the others are from, and from when on they are of another
// process, in seconds.
const (
	timeField  = "time_s"
	breakField = "take_over_s"
)

// A course is a sample of a row, over time.
type course struct {
	field, name string
	unit        float64 // of the axis, in the sample's
}

// coursePanels are the panels of rows that have samples over time.
var coursePanels = []struct {
	title, label string
	courses      []course
}{
	{"Memory", "MB", []course{{"heap_live_bytes", "live heap", 1e6}, {"rss_bytes", "resident", 1e6}}},
	{"Goroutines", "goroutines", []course{{"goroutines", "goroutines", 1}}},
	{"Descriptors and connections", "descriptors, connections", []course{{"descriptors", "descriptors", 1}, {"connections_open", "connections", 1}}},
}

// courses are the styles of the lines, without marks.
var courses = map[string]style{
	"live heap":   {ink: inkOurs},
	"resident":    {ink: inkStock, dash: dashes(5, 2)},
	"goroutines":  {ink: inkGreen, dash: dashes(8, 2, 2, 2)},
	"descriptors": {ink: inkPurple, dash: dashes(6, 2)},
	"connections": {ink: inkAmber, dash: dashes(2, 2)},
}

// coursePictures has a figure for each row with samples over time.
func coursePictures(rows []Row) (list []picture) {
	for _, r := range rows {
		at := r.Samples(timeField)
		if len(at) == 0 {
			continue
		}
		pic := picture{title: "What the process holds, over time", about: "Level, if nothing leaks. The heap is what was live after the last garbage collection."}
		if where := Cell(r, rows); where != "" {
			pic.title += ": " + where
		}
		if r.Samples(breakField) != nil {
			pic.about += " At each upright line another process has taken over."
		}
		if why := r.Text("why"); why != "" {
			pic.about += " It has failed: " + why + "."
		}
		for _, of := range coursePanels {
			p := &panel{title: of.title, x: axis{label: "minutes"}, y: axis{label: of.label}}
			for _, s := range r.Samples(breakField) {
				p.breaks = append(p.breaks, s/60)
			}
			for _, c := range of.courses {
				values := r.Samples(c.field)
				one := series{name: c.name, style: courses[c.name]}
				for i := range min(len(values), len(at)) {
					v := values[i] / c.unit
					one.points = append(one.points, point{at[i] / 60, v, v, v})
				}
				if len(one.points) > 0 {
					p.series = append(p.series, one)
					pic.series = append(pic.series, c.name)
				}
			}
			if len(p.series) > 0 {
				pic.panels = append(pic.panels, p)
			}
		}
		list = append(list, pic)
	}
	return list
}

// maxTold is how many points of a series a description tells one by one.
const maxTold = 40

// course says in words how a series of many points goes.
func (s *series) course() string {
	first, last := s.points[0], s.points[len(s.points)-1]
	low, high := rangeOf([]series{*s}, func(v point) []float64 { return []float64{v.y} }, true)
	return fmt.Sprintf(" %s: %s at %s, %s at %s, and from %s to %s in between.", s.name, Number(first.y), short(first.x), Number(last.y), short(last.x), Number(low), Number(high))
}

// A breakPlotter draws upright lines.
type breakPlotter []float64

// Plot implements plot.Plotter.
func (b breakPlotter) Plot(c draw.Canvas, g *plot.Plot) {
	x, _ := g.Transforms(&c)
	for _, at := range b {
		c.StrokeLine2(draw.LineStyle{Color: inkRule.standIn(), Width: 1}, x(at), c.Min.Y, x(at), c.Max.Y)
	}
}
