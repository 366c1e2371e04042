package browser

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// bad is a page with each fault once or more, and good is one with none.
const (
	bad = `<!doctype html><html><head><title>bad</title><style>body { background: #fff; color: #000; margin: 0 }</style></head><body>
<h1>one</h1><h1>two</h1><section>s</section><table><tr><th>x</th></tr></table>
<p id="a" style="color: #999">faint</p><p id="a" style="width: 3000px">wide</p><a href="#nowhere">link</a>
<svg width="20" height="20"><path id="mark" d="M0 0L9 9" stroke="#eee" fill="none"/></svg><svg role="img"></svg>
<script>console.log("said"); fetch("/missing")</script></body></html>`
	good = `<!doctype html><html lang="en"><head><title>good</title><style>body { background: #fff; color: #000 }</style></head><body>
<h1>one</h1><p id="n">0</p><svg aria-hidden="true" width="20" height="20"><path id="mark" d="M0 0L9 9" stroke="#000" fill="none"/></svg>
<script>setInterval(() => { const n = document.querySelector("#n"); n.textContent = +n.textContent + 1 }, 20)</script></body></html>`
)

// TestFaults has each fault of a page found, and none in a page without.
func TestFaults(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := map[string]string{"/good": good, "/bad": bad}[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(page))
	}))
	defer site.Close()
	tab := Open(t)
	tab.View(t, 800, 600, "light")

	tab.Do(t, chromedp.Navigate(site.URL+"/good"))
	tab.Changes(t, `document.querySelector("#n").textContent`)
	for _, list := range [][]string{tab.TooWide(t), tab.Faint(t), tab.FaintMarks(t, "#mark"), tab.Outline(t)} {
		for _, fault := range list {
			t.Errorf("in a good page: %s", fault)
		}
	}
	if Eval[bool](t, tab, `matchMedia("(prefers-color-scheme: dark)").matches`) {
		t.Error("the screen is dark")
	}
	tab.View(t, 800, 600, "dark")
	tab.Until(t, `matchMedia("(prefers-color-scheme: dark)").matches`)

	tab.View(t, 800, 600, "light")
	tab.Do(t, chromedp.Navigate(site.URL+"/bad"))
	has := func(list []string, parts ...string) {
		t.Helper()
		all := strings.Join(list, "\n")
		for _, part := range parts {
			if !strings.Contains(all, part) {
				t.Errorf("%q is not in\n%s", part, all)
			}
		}
	}
	has(tab.TooWide(t), "P. to 3000 px of 800", "the page is 3000 px wide")
	has(tab.Faint(t), "2.85 faint")
	has(tab.FaintMarks(t, "#mark"), "1.16 rgb(238, 238, 238)")
	has(tab.Outline(t), "table without caption", "picture without title", "picture without role", "section without name", "not one h1",
		"no language", "two elements have the id a", "th without scope: x", "no target")
	tab.Until(t, `performance.getEntriesByName(location.origin + "/missing").length > 0`)
	requests, trouble := tab.Seen()
	has(requests, site.URL+"/good", site.URL+"/bad", site.URL+"/missing")
	has(trouble, "console.log", "404")
}
