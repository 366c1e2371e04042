package admin

import (
	"encoding/json"
	"math"
	"strconv"
)

// The plane of a chart: a unit a sample from left to right, and its height. The
// browser stretches it; strokes keep their width.
const (
	plotWidth  = keptSamples - 1
	plotHeight = 100
	plotRoom   = 4 // above the highest value
)

// A Chart is one or two lines over the time that samples are kept.
type Chart struct {
	ID    string `json:"-"`
	Title string `json:"title"`
	// Unit is how values are written: see the formats.
	Unit  string `json:"unit"`
	Lines []Line `json:"lines"`

	format func(float64) quantity
	top    float64 // of the scale
	window string  // that the values span
	Empty  string  `json:"-"` // why there is no line
}

// A Line is a series of values, the last of now.
type Line struct {
	Name   string   `json:"name"`
	Values values   `json:"values"`
	Now    quantity `json:"-"` // a mean of some seconds
	Path   string   `json:"-"` // in SVG
	Area   bool     `json:"-"` // to be filled
}

// values are numbers second by second; NaN stands for none.
type values []float64

// MarshalJSON writes NaN as null, and no more digits than a chart can show.
func (v values) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
			continue
		}
		b = strconv.AppendFloat(b, x, 'g', 5, 64)
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads null as NaN.
func (v *values) UnmarshalJSON(b []byte) error {
	var list []*float64
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*v = make(values, len(list))
	for i, x := range list {
		(*v)[i] = math.NaN()
		if x != nil {
			(*v)[i] = *x
		}
	}
	return nil
}

// formats are the ways to write values; status.js has the same.
var formats = map[string]func(float64) quantity{
	"rate":    plainRate,
	"bits":    bits,
	"bytes":   byteRate,
	"seconds": seconds,
	"percent": percent,
	"number":  func(v float64) quantity { return si(v, "") },
}

// draw makes the paths of all lines on one scale.
func (c *Chart) draw() {
	c.format = formats[c.Unit]
	highest := 0.0
	for _, l := range c.Lines {
		highest = max(highest, l.Values.peak())
	}
	c.top = niceTop(highest)
	for i := range c.Lines {
		c.Lines[i].Path = c.Lines[i].Values.path(c.top, c.Lines[i].Area)
	}
}

// Top is the highest value of the scale.
func (c *Chart) Top() string { return c.format(c.top).String() }

// Summary says in words what the lines show.
func (c *Chart) Summary() string {
	text := c.Title + " in the last " + c.window + "."
	for _, l := range c.Lines {
		text += " " + l.Name + ": now " + l.Now.String() + ", at most " + c.format(l.Values.peakOrNaN()).String() + ", on average " + c.format(l.Values.mean()).String() + "."
	}
	return text
}

// Peak and Mean are those of the first line.
func (c *Chart) Peak() string { return c.format(c.Lines[0].Values.peakOrNaN()).String() }

// Mean is the average of the first line.
func (c *Chart) Mean() string { return c.format(c.Lines[0].Values.mean()).String() }

func (v values) peak() float64 {
	highest := 0.0
	for _, x := range v {
		if x > highest { // false for NaN
			highest = x
		}
	}
	return highest
}

func (v values) peakOrNaN() float64 {
	if math.IsNaN(v.mean()) {
		return math.NaN()
	}
	return v.peak()
}

func (v values) mean() float64 {
	sum, n := 0.0, 0
	for _, x := range v {
		if !math.IsNaN(x) {
			sum, n = sum+x, n+1
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// path draws the values in SVG, the last at the right edge. An area is closed
// below the plane, where its border is not seen.
func (v values) path(top float64, area bool) string {
	const below = plotHeight + 8
	var b []byte
	pen := false
	x := 0
	for i, y := range v {
		x = plotWidth - (len(v) - 1 - i)
		if math.IsNaN(y) {
			pen = false
			continue
		}
		switch {
		case !pen && area:
			b = append(b, 'M')
			b = append(strconv.AppendInt(b, int64(x), 10), ',')
			b = append(strconv.AppendInt(b, below, 10), 'L')
		case !pen:
			b = append(b, 'M')
		default:
			b = append(b, 'L')
		}
		pen = true
		b = append(strconv.AppendInt(b, int64(x), 10), ',')
		height := min(y/top, 1) * (plotHeight - plotRoom)
		b = strconv.AppendFloat(b, plotHeight-height, 'f', 1, 64)
	}
	if area && pen {
		b = append(b, 'L')
		b = append(strconv.AppendInt(b, int64(x), 10), ',')
		b = strconv.AppendInt(b, below, 10)
	}
	return string(b)
}

// niceTop is the least round number that v fits below. The scale of nothing is
// that of 1.
func niceTop(v float64) float64 {
	if v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if v <= m*power {
			return m * power
		}
	}
	return 10 * power
}
