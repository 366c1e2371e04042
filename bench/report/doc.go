// Package report makes what is read of the JSON that `tailfin bench` writes: text for
// benchstat, and a page with tables and plots that needs nothing else. It knows the
// names of fields and not the scenarios' types, so that it reads old files, and rows of
// scenarios that it does not know.
//
//	{"environment": {…}, "seed": 1, "rows": [{"scenario": "recv", "reader": "auto", …}]}
//
// A row has dimensions, which say what was measured of whom; figures, which are medians
// over rounds; and samples, a map from a figure's name to its values, one a round:
//
//	"cpu_ns_per_datagram": 171, "samples": {"cpu_ns_per_datagram": [170, 171, 176]}
//
// One that has "invalid" or "skipped" says why its figures are not to be used. Such rows
// are in the tables, with that reason, and in no plot.
package report
