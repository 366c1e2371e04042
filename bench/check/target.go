package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/report"
)

// A Relation is how a figure has to stand to a bound.
type Relation string

// The relations.
const (
	AtMost  Relation = "≤"
	AtLeast Relation = "≥"
	Below   Relation = "<"
	Shown   Relation = "" // there is no bound: the figure stands beside others
)

// Cells are combinations of values by dimension, each of one of the values given. Rows
// differ in further dimensions, and all count.
type Cells map[string][]any

// A Target is what rows have to reach.
type Target struct {
	Name     string // stable, for scripts
	Source   string // where it was promised
	Text     string // for people
	Scenario string
	Cells    []Cells
	Figure   string // a field of rows
	Relation Relation
	Bound    float64
	Aim      bool // aimed at beyond the target; decides nothing

	// AtLeast has fields that a row needs so much of to count at all.
	AtLeast map[string]float64
	// Untrue counts rows whose field is not this text, instead of a figure. Rows that
	// are not valid count too.
	Untrue map[string]string
}

// Run checks rows against all targets.
func Run(d *report.Document) []report.Verdict {
	list := make([]report.Verdict, 0, len(Targets))
	for i := range Targets {
		list = append(list, Targets[i].check(d))
	}
	return list
}

// OfScenarios checks rows against the targets of the scenarios that they are of.
func OfScenarios(d *report.Document) []report.Verdict {
	have := d.Scenarios()
	return slices.DeleteFunc(Run(d), func(v report.Verdict) bool { return !slices.Contains(have, v.Scenario) })
}

func (t *Target) check(d *report.Document) report.Verdict {
	v := report.Verdict{Name: t.Name, Scenario: t.Scenario, Text: t.Text, Source: t.Source, Aim: t.Aim}
	if t.Relation != Shown {
		v.Bound = string(t.Relation) + " " + report.Number(t.Bound)
	}
	rows := d.Of(t.Scenario)
	if len(rows) == 0 {
		v.Result, v.Why = report.Missing, fmt.Sprintf("no row of the scenario %s", t.Scenario)
		return v
	}
	if t.Untrue != nil {
		t.count(&v, rows)
		return v
	}
	worst, missing := t.worst(rows)
	if worst != nil {
		figure, _ := worst.Figure(t.Figure)
		v.Figure = &figure
		v.Found = found(worst, t.Figure)
		if where := report.Cell(worst, t.matching(rows), "path", "pinned", "reader", "drain"); where != "" {
			v.Found += " at " + where
		}
	}
	switch {
	case worst != nil && !t.within(*v.Figure):
		v.Result, v.Why = report.Short, t.by(*v.Figure)
	case len(missing) > 0:
		v.Result = report.Missing
	case t.Relation == Shown:
		v.Result = report.Shown
	default:
		v.Result = report.Pass
	}
	if len(missing) > 0 {
		v.Why = strings.TrimPrefix(v.Why+"; "+summary(missing), "; ")
	}
	return v
}

// by says how far a figure is from the bound.
func (t *Target) by(figure float64) string {
	if t.Bound == 0 {
		return "not 0"
	}
	return fmt.Sprintf("off by %.1f %%", 100*abs(figure-t.Bound)/t.Bound)
}

func abs(v float64) float64 { return max(v, -v) }

// count is the check of rows that have to say one thing.
func (t *Target) count(v *report.Verdict, rows []report.Row) {
	var bad float64
	for _, r := range rows {
		if !t.selects(r) || r.Text("skipped") != "" {
			continue
		}
		for field, want := range t.Untrue {
			if got := r.Text(field); got != want {
				bad++
				v.Why = fmt.Sprintf("%s says %q", report.Cell(r, rows), got)
			}
		}
	}
	v.Figure, v.Found = &bad, fmt.Sprintf("%s of %d rows", report.Number(bad), len(t.matching(rows)))
	switch {
	case len(t.matching(rows)) == 0:
		v.Result, v.Why, v.Figure, v.Found = report.Missing, "no row of it", nil, ""
	case t.within(bad):
		v.Result = report.Pass
	default:
		v.Result = report.Short
	}
}

// worst is the valid row whose figure is worst, and what of the cells has none.
func (t *Target) worst(rows []report.Row) (worst report.Row, missing []string) {
	of := t.matching(rows)
	type state struct {
		valid bool
		why   string
	}
	cells := map[string]*state{} // by all dimensions: a row measured anew may replace one that failed
	var order []string
	for _, r := range of {
		name := report.Key(r)
		s := cells[name]
		if s == nil {
			s = &state{}
			cells[name] = s
			order = append(order, name)
		}
		figure, why := t.figure(r)
		if why != "" {
			if at := report.Cell(r, of, "reader", "drain"); at != "" {
				why = at + ": " + why
			}
			s.why = why
			continue
		}
		s.valid = true
		if worst == nil || t.worse(figure, mustFigure(worst, t.Figure)) {
			worst = r
		}
	}
	for _, name := range order {
		if s := cells[name]; !s.valid {
			missing = append(missing, s.why)
		}
	}
	for _, cell := range t.combinations() {
		if why := "no row with " + cell.lacking(rows).String(); !slices.ContainsFunc(of, cell.selects) && !slices.Contains(missing, why) {
			missing = append(missing, why)
		}
	}
	return worst, missing
}

// figure is that of a row, or why it does not count.
func (t *Target) figure(r report.Row) (figure float64, why string) {
	if why := r.Trouble(); why != "" {
		return 0, why
	}
	for field, least := range t.AtLeast {
		if v, _ := r.Figure(field); v < least {
			return 0, fmt.Sprintf("%s %s, and it takes %s", report.Number(v), strings.ReplaceAll(field, "_", " "), report.Number(least))
		}
	}
	v, ok := r.Figure(t.Figure)
	if !ok {
		return 0, "the row has no " + t.Figure
	}
	return v, ""
}

func mustFigure(r report.Row, name string) float64 {
	v, _ := r.Figure(name)
	return v
}

func (t *Target) within(v float64) bool {
	switch t.Relation {
	case AtMost:
		return v <= t.Bound
	case AtLeast:
		return v >= t.Bound
	case Below:
		return v < t.Bound
	}
	return true
}

// worse tells whether a figure is further on the wrong side than another.
func (t *Target) worse(a, b float64) bool {
	if t.Relation == AtLeast {
		return a < b
	}
	return a > b
}

func (t *Target) selects(r report.Row) bool {
	return slices.ContainsFunc(t.Cells, func(c Cells) bool { return c.selects(r) })
}

func (t *Target) matching(rows []report.Row) []report.Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r report.Row) bool { return !t.selects(r) })
}

// found is a figure with the range of its rounds.
func found(r report.Row, figure string) string {
	text := report.Number(mustFigure(r, figure))
	if low, high, ok := report.Range(r, figure); ok {
		text += fmt.Sprintf(" (%s–%s)", report.Number(low), report.Number(high))
	}
	return text
}

// summary is the first of some reasons, and how many more there are.
func summary(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return fmt.Sprintf("%s; and %d more", list[0], len(list)-1)
}
