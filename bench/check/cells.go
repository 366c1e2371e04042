package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/report"
)

// selects tells whether a row is in one of the cells.
func (c Cells) selects(r report.Row) bool {
	for field, values := range c {
		if !slices.ContainsFunc(values, func(v any) bool { return same(r[field], v) }) {
			return false
		}
	}
	return true
}

// same compares a value of a row, where numbers are float64, with one of a target.
func same(got, want any) bool {
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	return got == want
}

// lacking is what of a single cell no row has: one field, if there is one, and all of
// them if it is only their combination.
func (c Cells) lacking(rows []report.Row) Cells {
	for _, field := range slices.Sorted(maps.Keys(c)) {
		if one := (Cells{field: c[field]}); !slices.ContainsFunc(rows, one.selects) {
			return one
		}
	}
	return c
}

// String names a single cell.
func (c Cells) String() string {
	var parts []string
	for _, field := range slices.Sorted(maps.Keys(c)) {
		var values []string
		for _, v := range c[field] {
			values = append(values, fmt.Sprint(v))
		}
		parts = append(parts, field+" "+strings.Join(values, " or "))
	}
	return strings.Join(parts, ", ")
}

// combinations lists the single cells, each of which must have a row.
func (t *Target) combinations() []Cells {
	var list []Cells
	for _, c := range t.Cells {
		some := []Cells{{}}
		for _, field := range slices.Sorted(maps.Keys(c)) {
			var next []Cells
			for _, one := range some {
				for _, v := range c[field] {
					with := maps.Clone(one)
					with[field] = []any{v}
					next = append(next, with)
				}
			}
			some = next
		}
		list = append(list, some...)
	}
	return list
}
