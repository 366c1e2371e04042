package report

import (
	"fmt"
	"image/color"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// An ink is a colour that the page's style sheet defines, once for light and once for
// dark. A plot is drawn with a stand-in for it, which svg replaces.
type ink int

// The inks, by their custom properties in page.css. Those of series are apart in
// lightness too, so that they can be told with any colour vision.
const (
	inkText ink = iota
	inkMuted
	inkRule
	inkFaint
	inkOurs   // blue
	inkStock  // vermilion
	inkGreen  //
	inkPurple //
	inkAmber  //
	inkSky    //
	inkGrey   //
)

var properties = []string{"--ink", "--muted", "--rule", "--faint", "--blue", "--vermilion", "--green", "--purple", "--amber", "--sky", "--grey"}

// standIn is apart from others by 8 in the first channel, since vgsvg rounds down.
func (i ink) standIn() color.Color {
	return color.RGBA{R: uint8(8 * (i + 1)), G: 128, B: 128, A: 255} //nolint:gosec // there are few inks
}

var standIns = regexp.MustCompile(`#([0-9A-F]{2})(?:7F|80)(?:7F|80)`)

// restoreInks replaces stand-ins by the properties that the style sheet defines.
func restoreInks(svg string) string {
	return standIns.ReplaceAllStringFunc(svg, func(s string) string {
		red, _ := strconv.ParseUint(s[1:3], 16, 8)
		i := int(red+4)/8 - 1
		if i < 0 || i >= len(properties) {
			return s
		}
		return "var(" + properties[i] + ")"
	})
}

// A style is how a contestant is drawn, by colour, mark and dashes: each alone is
// enough to tell it from others.
type style struct {
	ink   ink
	mark  draw.GlyphDrawer // nil for lines of so many points that marks would hide them
	dash  []vg.Length
	hatch bool // bars are outlined and not filled
}

// known are the styles of those that most plots have, the same in all of them.
var known = map[string]style{
	"stock":           {inkStock, draw.PyramidGlyph{}, nil, false},
	"auto":            {inkOurs, draw.CircleGlyph{}, nil, false},
	"auto, drain on":  {inkOurs, draw.CircleGlyph{}, nil, false},
	"auto, drain off": {inkGreen, draw.SquareGlyph{}, dashes(5, 2), false},
	"h3frame":         {inkOurs, draw.CircleGlyph{}, nil, false},
	"mmsg-gro":        {inkPurple, draw.BoxGlyph{}, dashes(6, 2), false},
	"uring-gro":       {inkSky, draw.RingGlyph{}, dashes(2, 2), false},
	"c":               {inkText, draw.CrossGlyph{}, dashes(1, 2), false},
	"xnet":            {inkPurple, draw.BoxGlyph{}, dashes(6, 2), false},
	"varint":          {inkGrey, draw.CrossGlyph{}, dashes(1, 2), false},
	"http2":           {inkStock, draw.PyramidGlyph{}, nil, false},
	"p50":             {inkOurs, draw.CircleGlyph{}, nil, false},
	"p99":             {inkStock, draw.PyramidGlyph{}, dashes(5, 2), false},
}

// spare are for the others, in turn.
var spare = []style{
	{inkAmber, draw.TriangleGlyph{}, dashes(8, 2, 2, 2), false},
	{inkGrey, draw.PlusGlyph{}, dashes(4, 3), false},
	{inkGreen, draw.SquareGlyph{}, dashes(5, 2), false},
	{inkSky, draw.BoxGlyph{}, dashes(2, 4), true},
	{inkAmber, draw.RingGlyph{}, dashes(1, 1), true},
	{inkPurple, draw.CircleGlyph{}, dashes(8, 4), true},
	{inkGrey, draw.PyramidGlyph{}, dashes(2, 1), true},
	{inkText, draw.TriangleGlyph{}, dashes(6, 1, 1, 1), true},
}

// styles gives each contestant of a document a style, which it keeps in all plots.
func styles(d *Document) map[string]style {
	m := maps.Clone(courses)
	next := 0
	for _, r := range d.Rows {
		name := contestant(r)
		if _, has := m[name]; has {
			continue
		}
		s, ok := known[name]
		if !ok {
			s = spare[next%len(spare)]
			next++
		}
		m[name] = s
	}
	return m
}

func dashes(lengths ...vg.Length) []vg.Length { return slices.Clip(lengths) }

func (s style) line() draw.LineStyle {
	return draw.LineStyle{Color: s.ink.standIn(), Width: 1.6, Dashes: s.dash}
}

func (s style) glyph() draw.GlyphStyle {
	return draw.GlyphStyle{Color: s.ink.standIn(), Radius: 3.4, Shape: s.mark}
}

// plotFont is measured while a plot is laid out; the page asks for it, or for one of
// the same widths.
func plotFont(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

var (
	fontStyle = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*;?`)
	prolog    = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
)

// embed makes an element for a page out of what vgsvg wrote: in the page's colours and
// type, of the width that is there for it, and with a text instead of the picture.
func embed(svg string, width, height vg.Length, id, title, description string) string {
	svg = prolog.ReplaceAllString(svg, "")
	svg = fontStyle.ReplaceAllString(restoreInks(svg), "")
	esc := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g"`, width.Points(), height.Points())
	if title == "" {
		return head + fmt.Sprintf(` width="%g" height="%g" aria-hidden="true">`, width.Points(), height.Points()) + svg
	}
	return head + fmt.Sprintf(` role="img" aria-labelledby="%[1]s-t" aria-describedby="%[1]s-d"><title id="%[1]s-t">%[2]s</title><desc id="%[1]s-d">%[3]s</desc>`,
		id, esc(title), esc(description)) + svg
}
