package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// maxDocument bounds a JSON file that is read, in bytes. A full matrix has under 2 MiB.
const maxDocument = 64 << 20

// A Document is what a bench prints as JSON.
type Document struct {
	Environment map[string]any `json:"environment"`
	Seed        uint64         `json:"seed"`
	Rows        []Row          `json:"rows"`

	// Warnings say what failed, and what of a merged document does not fit together.
	Warnings []string `json:"warnings,omitempty"`
}

// A Row is what one contestant did in one cell of a scenario's matrix.
type Row map[string]any

// Read reads a document.
func Read(r io.Reader) (*Document, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("more than %d bytes; give a file that tailfin bench has written", maxDocument)
	}
	return Parse(text)
}

// Parse takes a document from its text.
func Parse(text []byte) (*Document, error) {
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("not the JSON of tailfin bench: %w", err)
	}
	if d.Rows == nil && d.Environment == nil {
		return nil, errors.New("neither environment nor rows; give a file that tailfin bench --json has written")
	}
	for i, row := range d.Rows {
		if row.Text("scenario") == "" {
			return nil, fmt.Errorf("row %d names no scenario; give a file that tailfin bench --json has written", i+1)
		}
		// Before rows had a path there was this one.
		if row["path"] == nil && slices.Contains([]string{"recv", "transfer", "uploads"}, row.Text("scenario")) {
			row["path"] = "loopback"
		}
	}
	return &d, nil
}

// ReadFiles reads documents and merges them.
func ReadFiles(paths ...string) (*Document, error) {
	list := make([]*Document, 0, len(paths))
	for _, path := range paths {
		d, err := readFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, d)
	}
	return Merge(list...), nil
}

func readFile(path string) (*Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is said by the caller
	}
	defer f.Close()
	return Read(f)
}

// varies has what of an environment differs from one run to the next on one machine.
var varies = []string{"date", "load_average"}

// Merge has the rows of several documents, and the environment and the seed of the
// first. Where other environments differ, a warning says so: figures of different
// machines, kernels or builds are not to be compared.
func Merge(list ...*Document) *Document {
	all := &Document{}
	for i, d := range list {
		all.Rows = append(all.Rows, d.Rows...)
		all.Warnings = append(all.Warnings, d.Warnings...)
		if i == 0 {
			all.Environment, all.Seed = d.Environment, d.Seed
			continue
		}
		var differ []string
		keys := maps.Clone(all.Environment)
		if keys == nil {
			keys = map[string]any{}
		}
		maps.Copy(keys, d.Environment)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			a, b := Row(all.Environment).Text(key), Row(d.Environment).Text(key)
			if !slices.Contains(varies, key) && a != b {
				differ = append(differ, fmt.Sprintf("%s (%s, then %s)", key, cmp.Or(a, "nothing"), cmp.Or(b, "nothing")))
			}
		}
		if len(differ) > 0 {
			all.Warnings = append(all.Warnings, fmt.Sprintf("document %d was measured in another environment than the first, and its rows are not to be compared with the first's: %s",
				i+1, strings.Join(differ, ", ")))
		}
	}
	return all
}

// Text is a field as text; empty if there is none.
func (r Row) Text(field string) string {
	switch v := r[field].(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case float64:
		return Number(v)
	}
	return ""
}

// Figure is a number of a row.
func (r Row) Figure(field string) (float64, bool) {
	v, ok := r[field].(float64)
	return v, ok
}

// Samples are the values of a figure, one a round; nil if they were not kept.
func (r Row) Samples(field string) []float64 {
	all, _ := r["samples"].(map[string]any)
	list, _ := all[field].([]any)
	var values []float64
	for _, v := range list {
		if n, ok := v.(float64); ok {
			values = append(values, n)
		}
	}
	return values
}

// Range is that of a figure over rounds: of its own samples, or of the ratios of runs of
// one round.
func Range(r Row, figure string) (low, high float64, ok bool) {
	if m, is := r[figure+"_range"].(map[string]any); is {
		low, ok := m["low"].(float64)
		high, also := m["high"].(float64)
		return low, high, ok && also && high > low
	}
	low, high = spread(r, figure)
	return low, high, high > low
}

// Key has all dimensions of a row but those left out: rows that are of the same cell and
// contestant have the same.
func Key(r Row, without ...string) string {
	dims, _ := fieldsOf([]Row{r})
	var b strings.Builder
	for _, f := range dims {
		if !slices.Contains(without, f.name) {
			fmt.Fprintf(&b, "%s=%s;", f.name, plain(r, f.name))
		}
	}
	return b.String()
}

// Valid tells whether the figures of a row say something.
func (r Row) Valid() bool { return r.Trouble() == "" }

// Trouble is why a row's figures say nothing, or why it has none; empty if they are
// valid.
func (r Row) Trouble() string {
	if why := r.Text("skipped"); why != "" {
		return "skipped: " + why
	}
	if why := r.Text("invalid"); why != "" {
		return "not valid: " + why
	}
	if how := r.Text("accounting"); how != "" && how != "exact" {
		return "not valid: accounts do not add up: " + how
	}
	return ""
}

// Scenarios lists those of the document, in the order in which they come.
func (d *Document) Scenarios() []string {
	var list []string
	for _, r := range d.Rows {
		if s := r.Text("scenario"); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// Of has the rows of a scenario.
func (d *Document) Of(scenario string) []Row {
	var list []Row
	for _, r := range d.Rows {
		if r.Text("scenario") == scenario {
			list = append(list, r)
		}
	}
	return list
}
