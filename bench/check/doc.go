// Package check says of each target of the project whether measured rows reach it. The
// targets are data, in targets.go.
//
// A target has cells: combinations of dimensions that must each have a valid row, with
// the figure in it. The worst row decides, unrounded. What it says is
//
//	pass     each row of each cell is within the bound
//	short    one is not
//	missing  none is outside, and a cell has no valid row, or only one that was skipped
//
// A figure is a median over rounds already, and a ratio is of runs of one round.
package check
