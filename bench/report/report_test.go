package report

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
	"testing"
)

// TestMerge puts documents of one machine together, and of two.
func TestMerge(t *testing.T) {
	a := &Document{Environment: map[string]any{"kernel": "6.18", "date": "2026-01-01T00:00:00Z", "load_average": "1 1 1"}, Seed: 7, Rows: []Row{{"scenario": "recv"}}}
	b := &Document{Environment: map[string]any{"kernel": "6.18", "date": "2026-01-02T00:00:00Z", "load_average": "9 9 9"}, Seed: 8, Rows: []Row{{"scenario": "transfer"}}}
	if all := Merge(a, b); len(all.Rows) != 2 || all.Seed != 7 || len(all.Warnings) != 0 {
		t.Errorf("%+v", all)
	}
	b.Environment["kernel"], b.Environment["cpu_governor"] = "6.1", "powersave"
	all := Merge(a, b)
	if len(all.Warnings) != 1 || !strings.Contains(all.Warnings[0], "cpu_governor (nothing, then powersave), kernel (6.18, then 6.1)") || strings.Contains(all.Warnings[0], "date") {
		t.Errorf("%q", all.Warnings)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":               "not the JSON of tailfin bench",
		"{}":             "neither environment nor rows",
		"[]":             "not the JSON of tailfin bench",
		`{"rows":[{}]}`:  "row 1 names no scenario",
		`{"rows":["a"]}`: "not the JSON of tailfin bench",
		`{"rows":[{"scenario":"recv","samples":7,"reader":{"a":1}}],"seed":18446744073709551615}`: "",
	} {
		d, err := Parse([]byte(text))
		if want == "" && (err != nil || d.Seed != math.MaxUint64) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			var out bytes.Buffer
			if err := HTML(&out, d, nil); err != nil {
				t.Error(err)
			}
			if err := Text(&out, d); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPage looks for each row in the tables, and for the reasons of those that are not
// valid.
func TestPage(t *testing.T) {
	d := sample(t)
	var out bytes.Buffer
	if err := HTML(&out, d, verdicts()); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, scenario := range d.Scenarios() {
		_, section, ok := strings.Cut(page, `aria-labelledby="s-`+scenario+`"`)
		if !ok {
			t.Errorf("no section of %s", scenario)
			continue
		}
		_, body, _ := strings.Cut(section, "<tbody>")
		body, _, _ = strings.Cut(body, "</tbody>")
		want := len(d.Of(scenario))
		for _, r := range d.Of(scenario) {
			if why := r.Trouble(); why != "" {
				if !strings.Contains(body, html.EscapeString(why)) {
					t.Errorf("%s: %q is not in the table", scenario, why)
				}
				if r.Text("invalid") != "" {
					want++ // the reason has a row of its own below the figures
				}
			}
		}
		if got := strings.Count(body, "<tr"); got != want {
			t.Errorf("%s: %d rows in the table, %d in the document", scenario, got, want)
		}
	}
	for _, part := range []string{"no liburing: &lt;install&gt; liburing-dev &amp; gcc", "&lt;b&gt;new&lt;/b&gt;", "6.18.44-fc-v782", "goats per s", "above the bound by 15 %"} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is not in the page", part)
		}
	}
	for _, not := range []string{"<script", "http://localhost", "https://", "url(", "<link rel=\"style", "<img", "NaN", "#0880", "#0780"} {
		if strings.Contains(page, not) {
			t.Errorf("%q is in the page", not)
		}
	}
}

// TestPictures counts what is plotted: a mark for each row that is valid, and none for
// others.
func TestPictures(t *testing.T) {
	d := sample(t)
	look := styles(d)
	marks := func(scenario, title string) (n int) {
		for _, pic := range pictures(d, scenario, look) {
			if !strings.HasPrefix(pic.title, title) {
				continue
			}
			for _, p := range pic.panels {
				for _, s := range p.series {
					n += len(s.points)
				}
			}
		}
		return n
	}
	valid := func(scenario string, also func(Row) bool) (n int) {
		for _, r := range d.Of(scenario) {
			if r.Valid() && also(r) {
				n++
			}
		}
		return n
	}
	has := func(figure string) func(Row) bool {
		return func(r Row) bool { v, ok := r.Figure(figure); return ok && v > 0 }
	}
	for _, tc := range []struct {
		scenario, title string
		want            int
	}{
		{"recv", "CPU per datagram by rate", valid("recv", has("offered_pps"))},
		{"recv", "Latency", valid("recv", has("p50_us")) + valid("recv", has("p99_us"))},
		{"transfer", "Uploads", 2 * valid("transfer", func(r Row) bool { return cost("upload", false)(r) && one("shards")(r) })},
		{"transfer", "Processor time by shards", 2 * valid("transfer", func(r Row) bool { return r.Text("pinned") == "no" })},
		{"transfer", "Latency", 2 * valid("transfer", func(r Row) bool { return r.Text("kind") == "latency" })},
		{"idle", "Memory", 2 * valid("idle", has("bytes_per_connection"))},
		{"closerace", "Loss at close by delay", valid("closerace", func(Row) bool { return true })},
		{"closerace", "Loss at close by size", valid("closerace", func(Row) bool { return true })},
		{"decode", "Decoding", valid("decode", has("ns_per_frame"))},
		{"requests", "Requests", 3 * valid("requests", has("p50_us"))},
		{"uploads", "Small uploads", 3 * valid("uploads", has("p50_us"))},
		{"soak", "What the process holds", 5 * 720},
		{"later", "", 0},
	} {
		if got := marks(tc.scenario, tc.title); got != tc.want || tc.want == 0 && tc.scenario != "later" {
			t.Errorf("%s, %s: %d marks, not %d", tc.scenario, tc.title, got, tc.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.27: "0.27", 0.0012345: "0.0012", 0.00004: "4e-05", 12.345: "12.3", 171.2: "171", 9999.4: "9999",
		12345.6: "12\u202f346", 1e6: "1\u202f000\u202f000", -54321: "-54\u202f321", 1.5: "1.50",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v is %q, not %q", v, got, want)
		}
	}
}

func TestTicks(t *testing.T) {
	for high, want := range map[float64]string{1: "0 0.2 0.4 0.6 0.8 1", 3.6: "0 1 2 3 4", 61234: "0 20k 40k 60k 80k", 0.86: "0 0.2 0.4 0.6 0.8 1", 21: "0 5 10 15 20 25"} {
		var got []string
		for _, tick := range linearTicks(high) {
			got = append(got, tick.Label)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("to %v: %s, not %s", high, text, want)
		}
	}
	for _, r := range [][2]float64{{150, 22000}, {30, 40}, {1, 1e6}, {0.5, 3}} {
		n := 0
		for _, tick := range logTicks(r[0]/1.5, r[1]*1.5) {
			if tick.Label != "" {
				n++
			}
		}
		if n < 2 || n > 10 {
			t.Errorf("%d labels from %v to %v", n, r[0], r[1])
		}
	}
}

func TestInks(t *testing.T) {
	for i, property := range properties {
		r, g, b, _ := ink(i).standIn().RGBA()
		for _, rounded := range []uint32{0, 1} { // vgsvg may round down
			code := fmt.Sprintf("#%02X%02X%02X", r>>8-rounded, g>>8-rounded, b>>8-rounded)
			if got := restoreInks("stroke:" + code); got != "stroke:var("+property+")" {
				t.Errorf("%s becomes %s, not %s", code, got, property)
			}
		}
		if !strings.Contains(pageStyle, property+": light-dark(") {
			t.Errorf("%s is not in the style sheet", property)
		}
	}
}
