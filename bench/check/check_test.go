package check

import (
	"maps"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/report"
)

// reaching are rows that reach a target exactly, one for each of its cells.
func reaching(t *Target) []report.Row {
	var rows []report.Row
	for _, cell := range t.combinations() {
		r := report.Row{"scenario": t.Scenario, "accounting": "exact"}
		for field, values := range cell {
			r[field] = values[0]
			if n, ok := values[0].(int); ok {
				r[field] = float64(n)
			}
		}
		for field, least := range t.AtLeast {
			r[field] = least
		}
		if t.Figure != "" {
			r[t.Figure] = t.Bound
			if t.Relation == Below {
				r[t.Figure] = t.Bound * 0.999
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func verdict(t *Target, rows []report.Row) report.Verdict {
	return t.check(&report.Document{Rows: rows})
}

// TestTargets takes each target over its bound, and its rows away.
func TestTargets(t *testing.T) {
	names := map[string]bool{}
	for i := range Targets {
		target := &Targets[i]
		if names[target.Name] {
			t.Errorf("two targets are called %s", target.Name)
		}
		names[target.Name] = true
		t.Run(target.Name, func(t *testing.T) {
			if target.Text == "" || target.Source == "" || target.Text[0] < 'A' || target.Text[0] > 'Z' {
				t.Errorf("text %q, source %q", target.Text, target.Source)
			}
			good := report.Pass
			if target.Relation == Shown {
				good = report.Shown
			}
			if v := verdict(target, reaching(target)); v.Result != good || v.Figure == nil {
				t.Errorf("at the bound: %+v", v)
			}
			if v := verdict(target, nil); v.Result != report.Missing || v.Why == "" {
				t.Errorf("without rows: %+v", v)
			}
			rows := reaching(target)
			last := rows[0]
			switch {
			case target.Untrue != nil:
				last["accounting"] = "3 too many"
			case target.Relation == AtLeast:
				last[target.Figure] = target.Bound * 0.99
			case target.Relation != Shown:
				last[target.Figure] = target.Bound*1.001 + 1e-6
			default:
				return
			}
			if v := verdict(target, rows); v.Result != report.Short || v.Why == "" {
				t.Errorf("over the bound: %+v", v)
			}
			if target.Untrue != nil {
				return
			}
			last["invalid"] = "trains were sent and did not come as trains"
			if v := verdict(target, rows); v.Result != report.Missing || !strings.Contains(v.Why, "did not come as trains") {
				t.Errorf("with a row that is not valid: %+v", v)
			}
			delete(last, "invalid")
			delete(last, target.Figure)
			if v := verdict(target, rows); v.Result != report.Missing || !strings.Contains(v.Why, target.Figure) {
				t.Errorf("with a row without the figure: %+v", v)
			}
			if rows = reaching(target); len(rows) > 1 {
				if v := verdict(target, rows[1:]); v.Result != report.Missing || !strings.Contains(v.Why, "no row with") {
					t.Errorf("without a cell: %+v", v)
				}
			}
			// What was measured anew counts, beside what had failed.
			bad := maps.Clone(rows[0])
			bad["skipped"] = "no memory"
			if v := verdict(target, append(rows, bad)); v.Result != report.Pass {
				t.Errorf("measured again: %+v", v)
			}
			for field := range target.AtLeast {
				rows = reaching(target)
				rows[0][field] = 12.0
				if v := verdict(target, rows); v.Result != report.Missing || !strings.Contains(v.Why, "12") {
					t.Errorf("with %s 12: %+v", field, v)
				}
			}
		})
	}
}

// TestShort is what it says of a row that is short: the figure, its range, where.
func TestShort(t *testing.T) {
	target := &Target{Scenario: "recv", Cells: []Cells{{"reader": {"auto"}, "sender_segments": {1, 16}}}, Figure: "ratio_to_stock", Relation: AtMost, Bound: 0.5}
	rows := reaching(target)
	rows[1]["ratio_to_stock"] = 0.6
	rows[1]["ratio_to_stock_range"] = map[string]any{"median": 0.6, "low": 0.55, "high": 0.71}
	v := verdict(target, rows)
	if v.Result != report.Short || v.Found != "0.60 (0.55–0.71) at trains of 16" || v.Why != "off by 20.0 %" || v.Bound != "≤ 0.50" {
		t.Errorf("%+v", v)
	}
	if report.Reached([]report.Verdict{v}) {
		t.Error("reached, with one that is short")
	}
	v.Aim = true
	if !report.Reached([]report.Verdict{v}) {
		t.Error("an aim decides")
	}
}

// TestRun is of all targets at once.
func TestRun(t *testing.T) {
	list := Run(&report.Document{})
	if len(list) != len(Targets) || report.Reached(list) || report.Count(list, report.Missing) == 0 {
		t.Errorf("%d verdicts of %d targets, %d missing", len(list), len(Targets), report.Count(list, report.Missing))
	}
	d := &report.Document{Rows: []report.Row{{"scenario": "idle"}}}
	if list := OfScenarios(d); len(list) != 1 || list[0].Name != "idle/memory" {
		t.Errorf("of a row of idle: %+v", list)
	}
}
