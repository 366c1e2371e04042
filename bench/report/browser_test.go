package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/tailfin-quic/tailfin/bench/browser"
)

// TestBrowser has a browser show the page of all scenarios, light and dark, on wide
// and narrow screens.
func TestBrowser(t *testing.T) {
	tb := browser.Open(t)
	file := filepath.Join(t.TempDir(), "report.html")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	d := sample(t)
	d.Warnings = []string{"document 2 was measured in another environment: kernel (6.18, then 6.1)"}
	if err := HTML(out, d, verdicts()); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	// The page has no script; what is asked of it here is the test's.
	tb.View(t, 1440, 1000, "light")
	tb.Do(t, chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS("main")))
	if n := browser.Eval[int](t, tb, `document.querySelectorAll("script").length`); n != 0 {
		t.Errorf("%d scripts", n)
	}
	if n := browser.Eval[int](t, tb, `[...document.querySelectorAll("details")].map(d => d.open = true).length`); n == 0 {
		t.Error("nothing is folded; the sample has several paths and flows")
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1440, 820, 360} {
			t.Run(fmt.Sprintf("%s %d", scheme, width), func(t *testing.T) {
				tb.View(t, width, 1000, scheme)
				for what, list := range map[string][]string{
					"beyond the right edge":             tb.TooWide(t),
					"text with a contrast below 4.5":    tb.Faint(t),
					"what is drawn, contrast below 3":   tb.FaintMarks(t, ".keys path"),
					"not to be seen":                    browser.Eval[[]string](t, tb, hidden),
					"text of plots below 9 px":          browser.Eval[[]string](t, tb, smallText),
					"text of plots beyond their frames": browser.Eval[[]string](t, tb, cutText),
				} {
					for _, bad := range list {
						t.Errorf("%s: %s", what, bad)
					}
				}
				if width != 820 {
					tb.Shoot(t, fmt.Sprintf("report-%s-%d", scheme, width))
				}
			})
		}
	}
	t.Run("colours chosen", func(t *testing.T) {
		tb.View(t, 1440, 1000, "light")
		ground := `getComputedStyle(document.body).backgroundColor`
		light := browser.Eval[string](t, tb, ground)
		tb.Do(t, chromedp.Click(chromedp.CSS("#theme-dark")))
		if dark := browser.Eval[string](t, tb, ground); dark == light {
			t.Errorf("the ground stays %s", dark)
		}
		tb.View(t, 1440, 1000, "dark")
		tb.Do(t, chromedp.Click(chromedp.CSS("#theme-light")))
		if got := browser.Eval[string](t, tb, ground); got != light {
			t.Errorf("the ground is %s, not %s", got, light)
		}
	})
	t.Run("outline", func(t *testing.T) {
		for _, bad := range tb.Outline(t) {
			t.Error(bad)
		}
	})
	t.Run("styles are told apart", func(t *testing.T) {
		for _, bad := range browser.Eval[[]string](t, tb, sameKeys) {
			t.Error(bad)
		}
	})
	requests, trouble := tb.Seen()
	for _, s := range trouble {
		t.Errorf("in the browser: %s", s)
	}
	for _, r := range requests {
		if r != "file://"+file && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asked for %s", r)
		}
	}
}

// What follows runs in the page, and lists what is wrong.
const (
	hidden = `[...document.querySelectorAll("svg")].filter(e => !e.checkVisibility() || e.getBoundingClientRect().width < 10 || e.getBoundingClientRect().height < 5 || !e.querySelector("path")).map(e => e.outerHTML.slice(0, 200))`

	smallText = `[...document.querySelectorAll("svg text")].filter(e => parseFloat(getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / e.closest("svg").viewBox.baseVal.width < 9).slice(0, 5).map(e => e.textContent)`

	cutText = `[...document.querySelectorAll("svg text")].filter(e => { const t = e.getBoundingClientRect(), s = e.closest("svg").getBoundingClientRect(); return t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 3 || t.bottom > s.bottom + 3 }).slice(0, 5).map(e => e.textContent)`

	sameKeys = `[...document.querySelectorAll(".keys")].flatMap(k => [...k.querySelectorAll("svg")].map(s => s.innerHTML).filter((s, i, all) => all.indexOf(s) !== i))`
)
