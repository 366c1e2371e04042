package report

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The size of a panel. At 360 px, the narrowest page, it is shown at about this size,
// so that its type is never small.
const (
	panelWidth  vg.Length = 330
	panelHeight vg.Length = 230
	labelSize   vg.Length = 11
)

// A point is a value and the range of its rounds; low and high are NaN if they are not
// known. x is a number, or the index of a category.
type point struct{ x, y, low, high float64 }

// A series is what one contestant did.
type series struct {
	name   string
	style  style
	points []point
}

// An axis says what is along it.
type axis struct {
	label      string
	log        bool
	categories []string // instead of numbers
	low, high  float64  // the range, or 0 and 0 for that of the data
	exact      bool     // ticks where there are values, and nowhere else
}

// A panel is one plot.
type panel struct {
	title  string
	x, y   axis
	series []series
	bars   bool
	breaks []float64 // along x, at which a line says that what follows is of another process
}

// svg draws the panel. id is unique in the page.
func (p *panel) svg(id, title string) (string, error) {
	g := plot.New()
	g.BackgroundColor = nil
	ticks := p.axes(g)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal = draw.LineStyle{Color: inkFaint.standIn(), Width: 1}
	g.Add(grid)
	if p.bars {
		g.Add(barPlotter{p, ticks})
	} else {
		g.Add(breakPlotter(p.breaks))
		for _, s := range p.series {
			g.Add(linePlotter{s})
		}
	}
	canvas := vgsvg.New(panelWidth, panelHeight)
	c := draw.New(canvas)
	name := draw.TextStyle{Color: inkMuted.standIn(), Font: plotFont(labelSize), XAlign: draw.XCenter, YAlign: draw.YBottom, Handler: plot.DefaultTextHandler}
	line := name.Height(p.x.label) + 4
	inner := draw.Crop(c, line, -6, line, -4)
	g.Draw(inner)
	// The names of axes are drawn here: gonum/plot (v0.17.0) makes room for that of a
	// logarithmic axis where the middle of a linear one would be.
	area := g.DataCanvas(inner)
	c.FillText(name, vg.Point{X: area.Center().X, Y: c.Min.Y + 3}, p.x.label)
	name.Rotation = math.Pi / 2
	c.FillText(name, vg.Point{X: c.Min.X + line - 4, Y: area.Center().Y}, p.y.label)
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	return embed(out.String(), panelWidth, panelHeight, id, title, p.description()), nil
}

// axes sets the axes of a plot up, and returns the number of categories.
func (p *panel) axes(g *plot.Plot) int {
	for _, a := range []struct {
		axis *plot.Axis
		is   axis
		of   func(point) []float64
	}{
		{&g.X, p.x, func(v point) []float64 { return []float64{v.x} }},
		{&g.Y, p.y, func(v point) []float64 { return []float64{v.y, v.low, v.high} }},
	} {
		low, high := a.is.low, a.is.high
		if low == 0 && high == 0 {
			low, high = rangeOf(p.series, a.of, a.is.log)
		}
		a.axis.Tick.Label.Font = plotFont(labelSize)
		a.axis.Tick.Label.Color = inkMuted.standIn()
		a.axis.Tick.Length = 4
		a.axis.Tick.Color, a.axis.Color = inkRule.standIn(), inkRule.standIn()
		a.axis.Tick.Width, a.axis.Width = 1, 1
		a.axis.Padding = 0
		switch {
		case a.is.categories != nil:
			a.axis.Min, a.axis.Max = -0.5, float64(len(a.is.categories))-0.5
			list := make([]plot.Tick, 0, len(a.is.categories))
			for i, name := range a.is.categories {
				list = append(list, plot.Tick{Value: float64(i), Label: name})
			}
			a.axis.Tick.Marker = plot.ConstantTicks(list)
		case a.is.log:
			if a.axis.Min, a.axis.Max = low/1.15, high*1.15; high/low < 2 { // some ticks at least
				a.axis.Min, a.axis.Max = low/1.5, high*1.5
			}
			a.axis.Scale = plot.LogScale{}
			a.axis.Tick.Marker = plot.TickerFunc(logTicks)
			if a.is.exact {
				a.axis.Tick.Marker = plot.ConstantTicks(p.exactTicks())
			}
		default:
			if p.bars && a.is.high == 0 {
				high *= 1.08 // room for the number above a bar
			}
			list := linearTicks(high)
			a.axis.Min, a.axis.Max = 0, list[len(list)-1].Value
			a.axis.Tick.Marker = plot.ConstantTicks(list)
		}
	}
	return len(p.x.categories)
}

// rangeOf is that of the values; from 0 on a linear axis, so that lengths are in
// proportion.
func rangeOf(list []series, of func(point) []float64, log bool) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, s := range list {
		for _, v := range s.points {
			for _, n := range of(v) {
				if math.IsNaN(n) || log && n <= 0 {
					continue
				}
				low, high = min(low, n), max(high, n)
			}
		}
	}
	if !log {
		low = 0
	}
	if high == 0 {
		high = 1
	}
	return min(low, high), high
}

// linearTicks are round numbers from 0 to the first at or above high.
func linearTicks(high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, s := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if high/(s*step) <= 5 {
			step *= s
			break
		}
	}
	var list []plot.Tick
	for i := 0; ; i++ {
		v := float64(i) * step
		list = append(list, plot.Tick{Value: v, Label: short(v)})
		if v >= high*0.9999 {
			return list
		}
	}
}

// logTicks has labels at powers of ten, and at their double and their half where there
// is room.
func logTicks(low, high float64) []plot.Tick {
	labelled := []float64{1}
	if high/low < 300 {
		labelled = []float64{1, 2, 5}
	}
	if high/low < 4 {
		labelled = []float64{1, 1.5, 2, 3, 4, 5, 7}
	}
	var list []plot.Tick
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for _, m := range []float64{1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9} {
			v := m * math.Pow(10, e)
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v}
			if slices.Contains(labelled, m) {
				t.Label = short(v)
			} else if m == 1.5 {
				continue
			}
			list = append(list, t)
		}
	}
	return list
}

// exactTicks are at the values along the x axis.
func (p *panel) exactTicks() []plot.Tick {
	var list []plot.Tick
	for _, s := range p.series {
		for _, v := range s.points {
			if !slices.ContainsFunc(list, func(t plot.Tick) bool { return t.Value == v.x }) {
				list = append(list, plot.Tick{Value: v.x, Label: short(v.x)})
			}
		}
	}
	return list
}

// A linePlotter draws a series as marks with the ranges of rounds, and a line through
// them.
type linePlotter struct{ series }

// Plot implements plot.Plotter.
func (l linePlotter) Plot(c draw.Canvas, g *plot.Plot) {
	x, y := g.Transforms(&c)
	var way []vg.Point
	thin := draw.LineStyle{Color: l.style.ink.standIn(), Width: 1}
	for _, p := range l.points {
		at := vg.Point{X: x(p.x), Y: y(p.y)}
		way = append(way, at)
		whisker(&c, thin, at.X, y, p, g.Y.Min)
	}
	c.StrokeLines(l.style.line(), way)
	if l.style.mark == nil {
		return
	}
	for _, at := range way {
		c.DrawGlyphNoClip(l.style.glyph(), at)
	}
}

// whisker draws the range of a point's rounds.
func whisker(c *draw.Canvas, s draw.LineStyle, x vg.Length, y func(float64) vg.Length, p point, least float64) {
	if math.IsNaN(p.low) || math.IsNaN(p.high) || p.high <= p.low {
		return
	}
	low, high := y(max(p.low, least)), y(p.high)
	c.StrokeLine2(s, x, low, x, high)
	c.StrokeLine2(s, x-2.5, low, x+2.5, low)
	c.StrokeLine2(s, x-2.5, high, x+2.5, high)
}

// A barPlotter draws the bars of all series, side by side in each category.
type barPlotter struct {
	*panel
	categories int
}

// Plot implements plot.Plotter.
func (b barPlotter) Plot(c draw.Canvas, g *plot.Plot) {
	x, y := g.Transforms(&c)
	each := (x(1) - x(0)) * 0.8 / vg.Length(len(b.series))
	width := min(each*0.86, 34)
	label := draw.TextStyle{Color: inkText.standIn(), Font: plotFont(10), XAlign: draw.XCenter, YAlign: draw.YBottom, Handler: plot.DefaultTextHandler}
	fit := true // all numbers, or none
	for _, s := range b.series {
		for _, p := range s.points {
			fit = fit && label.Width(short(p.y)) <= each-1
		}
	}
	for i, s := range b.series {
		for _, p := range s.points {
			middle := x(p.x) + (vg.Length(i)-vg.Length(len(b.series)-1)/2)*each
			left, right, top := middle-width/2, middle+width/2, y(p.y)
			corners := []vg.Point{{X: left, Y: c.Min.Y}, {X: left, Y: top}, {X: right, Y: top}, {X: right, Y: c.Min.Y}}
			if s.style.hatch {
				c.StrokeLines(draw.LineStyle{Color: s.style.ink.standIn(), Width: 1.6}, append(corners, corners[0]))
			} else {
				c.FillPolygon(s.style.ink.standIn(), corners)
			}
			whisker(&c, draw.LineStyle{Color: inkText.standIn(), Width: 1}, middle, y, p, 0)
			if fit {
				above := top
				if !math.IsNaN(p.high) {
					above = max(top, y(p.high))
				}
				c.FillText(label, vg.Point{X: middle, Y: above + 2}, short(p.y))
			}
		}
	}
	// The axis again, over the bars' feet.
	c.StrokeLine2(draw.LineStyle{Color: inkRule.standIn(), Width: 1}, c.Min.X, c.Min.Y, c.Max.X, c.Min.Y)
}

// description says in words what the panel shows.
func (p *panel) description() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s.", strings.TrimSuffix(p.y.label, " (log)"), strings.TrimSuffix(p.x.label, " (log)"))
	for _, s := range p.series {
		if len(s.points) > maxTold {
			b.WriteString(s.course())
			continue
		}
		fmt.Fprintf(&b, " %s:", s.name)
		for i, v := range s.points {
			sep := ","
			if i == 0 {
				sep = ""
			}
			at := short(v.x)
			if c := p.x.categories; c != nil && int(v.x) < len(c) {
				at = c[int(v.x)]
			}
			fmt.Fprintf(&b, "%s %s at %s", sep, Number(v.y), at)
			if !math.IsNaN(v.low) && !math.IsNaN(v.high) && v.high > v.low {
				fmt.Fprintf(&b, " (%s to %s)", Number(v.low), Number(v.high))
			}
		}
		b.WriteString(".")
	}
	return b.String()
}

// key draws what a legend has beside a contestant's name.
func (s style) key(bars bool) (string, error) {
	const width, height = 30, 12
	canvas := vgsvg.New(width, height)
	c := draw.New(canvas)
	switch {
	case bars && s.hatch:
		c.StrokeLines(draw.LineStyle{Color: s.ink.standIn(), Width: 1.6}, []vg.Point{{X: 9, Y: 1}, {X: 21, Y: 1}, {X: 21, Y: 11}, {X: 9, Y: 11}, {X: 9, Y: 1}})
	case bars:
		c.FillPolygon(s.ink.standIn(), []vg.Point{{X: 9, Y: 1}, {X: 21, Y: 1}, {X: 21, Y: 11}, {X: 9, Y: 11}})
	default:
		c.StrokeLine2(s.line(), 0, height/2, width, height/2)
		if s.mark != nil {
			c.DrawGlyphNoClip(s.glyph(), vg.Point{X: width / 2, Y: height / 2})
		}
	}
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	return embed(out.String(), width, height, "", "", ""), nil
}
