package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

const (
	// screenshotDir names the variable with a folder in which pictures are kept.
	screenshotDir = "TAILFIN_SCREENSHOT_DIR"
	// patience is far more than a browser on a busy machine needs.
	patience = time.Minute
)

// TestBrowser has a browser show the page of all scenarios, light and dark, on wide
// and narrow screens.
func TestBrowser(t *testing.T) {
	browser, err := peer.Chromium()
	if err != nil {
		t.Skip(err)
	}
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
	tb := openTab(t, browser)
	// The page has no script; what is asked of it here is the test's.
	tb.view(t, 1440, "light")
	tb.do(t, chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS("main")))
	if n := eval[int](t, tb, `document.querySelectorAll("script").length`); n != 0 {
		t.Errorf("%d scripts", n)
	}
	if n := eval[int](t, tb, `[...document.querySelectorAll("details")].map(d => d.open = true).length`); n == 0 {
		t.Error("nothing is folded; the sample has several paths and flows")
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1440, 820, 360} {
			t.Run(fmt.Sprintf("%s %d", scheme, width), func(t *testing.T) {
				tb.view(t, width, scheme)
				for what, expression := range map[string]string{
					"beyond the right edge":             fmt.Sprintf(`document.documentElement.scrollWidth > %d ? [%s] : []`, width, widest),
					"not to be seen":                    hidden,
					"text with a contrast below 4.5":    strings.Replace(faint, "LEAST", "4.5", 1),
					"what is drawn, contrast below 3":   strings.Replace(faintMarks, "LEAST", "3", 1),
					"text of plots below 9 px":          smallText,
					"text of plots beyond their frames": cutText,
				} {
					for _, bad := range eval[[]string](t, tb, expression) {
						t.Errorf("%s: %s", what, bad)
					}
				}
				if width != 820 {
					shoot(t, tb, fmt.Sprintf("report-%s-%d", scheme, width))
				}
			})
		}
	}
	t.Run("colours chosen", func(t *testing.T) {
		tb.view(t, 1440, "light")
		ground := `getComputedStyle(document.body).backgroundColor`
		light := eval[string](t, tb, ground)
		tb.do(t, chromedp.Click(chromedp.CSS("#theme-dark")))
		if dark := eval[string](t, tb, ground); dark == light {
			t.Errorf("the ground stays %s", dark)
		}
		tb.view(t, 1440, "dark")
		tb.do(t, chromedp.Click(chromedp.CSS("#theme-light")))
		if got := eval[string](t, tb, ground); got != light {
			t.Errorf("the ground is %s, not %s", got, light)
		}
	})
	t.Run("outline", func(t *testing.T) {
		for _, bad := range eval[[]string](t, tb, outline) {
			t.Error(bad)
		}
	})
	t.Run("styles are told apart", func(t *testing.T) {
		for _, bad := range eval[[]string](t, tb, sameKeys) {
			t.Error(bad)
		}
	})
	for _, s := range tb.trouble {
		t.Errorf("in the browser: %s", s)
	}
	for _, r := range tb.requests {
		if r != "file://"+file && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asked for %s", r)
		}
	}
}

// A tab is a page in a browser, and what went wrong in it.
type tab struct {
	context.Context
	mu                sync.Mutex
	requests, trouble []string
}

func openTab(t *testing.T, browser peer.Program) *tab {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser.Path), chromedp.NoSandbox, chromedp.DisableGPU)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		cancel()
		stop()
	})
	tb := &tab{Context: ctx}
	if err := chromedp.Listen(ctx, tb.listen); err != nil {
		t.Fatal(err)
	}
	command(t, tb, network.Enable, network.EnableParams{})
	command(t, tb, cdplog.Enable, cdp.Empty{})
	command(t, tb, cdpruntime.Enable, cdp.Empty{})
	return tb
}

// listen is called by the goroutine that reads from the browser.
func (tb *tab) listen(ev any) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		tb.requests = append(tb.requests, ev.Request.URL)
	case *cdplog.EventEntryAdded:
		tb.trouble = append(tb.trouble, fmt.Sprintf("%s: %s", ev.Entry.Source, ev.Entry.Text))
	case *cdpruntime.EventExceptionThrown:
		tb.trouble = append(tb.trouble, ev.ExceptionDetails.Text)
	}
}

func (tb *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.Context, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func value[T any](t *testing.T, tb *tab, a chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tb.Context, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func command[P, R any](t *testing.T, tb *tab, c cdp.Command[P, R], params P) {
	t.Helper()
	value(t, tb, func(ctx context.Context, target *chromedp.Target) (R, error) { return cdp.Call(ctx, target, c, params) })
}

func eval[T any](t *testing.T, tb *tab, expression string) T {
	t.Helper()
	return value(t, tb, chromedp.Evaluate[T](expression))
}

// view sets the width and the colours of the screen.
func (tb *tab) view(t *testing.T, width int64, scheme string) {
	t.Helper()
	command(t, tb, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 1000, DeviceScaleFactor: 1, Mobile: width < 600})
	command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// shoot keeps a picture if there is a folder for it.
func shoot(t *testing.T, tb *tab, name string) {
	t.Helper()
	dir := os.Getenv(screenshotDir)
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), value(t, tb, chromedp.FullScreenshot(100)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What follows runs in the page, and lists what is wrong.
const (
	widest = `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(0, 5).map(e => e.tagName + "." + e.className + " " + Math.round(e.getBoundingClientRect().right)).join(", ")`

	hidden = `[...document.querySelectorAll("svg")].filter(e => !e.checkVisibility() || e.getBoundingClientRect().width < 10 || e.getBoundingClientRect().height < 5 || !e.querySelector("path")).map(e => e.outerHTML.slice(0, 200))`

	smallText = `[...document.querySelectorAll("svg text")].filter(e => parseFloat(getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / e.closest("svg").viewBox.baseVal.width < 9).slice(0, 5).map(e => e.textContent)`

	cutText = `[...document.querySelectorAll("svg text")].filter(e => { const t = e.getBoundingClientRect(), s = e.closest("svg").getBoundingClientRect(); return t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 3 || t.bottom > s.bottom + 3 }).slice(0, 5).map(e => e.textContent)`

	colours = `
	const parse = c => { if (/^color\(srgb/.test(c)) return { rgb: c.match(/[\d.]+/g).slice(0, 3).map(v => v * 255), a: 1 }; const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
	const light = rgb => rgb.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const known = new Map();
	const behind = el => {
		if (!el) throw new Error("no ground");
		if (known.has(el)) return known.get(el);
		const { rgb, a } = parse(getComputedStyle(el).backgroundColor);
		const seen = a === 1 ? rgb : behind(el.parentElement).map((v, i) => rgb[i] * a + v * (1 - a));
		known.set(el, seen);
		return seen;
	};
	const contrast = (c, el) => { const [a, b] = [light(parse(c).rgb), light(behind(el))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };`

	// faint has WCAG 2 §1.4.3, for the text of plots too.
	faint = `(() => {` + colours + `
	const list = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const el = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || el.closest("title, desc")) continue;
		const ratio = contrast(el.closest("svg") ? getComputedStyle(el).fill : getComputedStyle(el).color, el);
		if (ratio < LEAST) list.push(ratio.toFixed(2) + " " + walk.currentNode.data.trim().slice(0, 40));
	}
	return list.slice(0, 10);
})()`

	// faintMarks has §1.4.11, for lines, marks and bars by the legend's.
	faintMarks = `(() => {` + colours + `
	const list = [];
	for (const el of document.querySelectorAll(".keys path")) {
		const s = getComputedStyle(el), c = s.fill === "none" ? s.stroke : s.fill, ratio = contrast(c, el);
		if (ratio < LEAST) list.push(ratio.toFixed(2) + " " + c + " " + el.closest("li").textContent);
	}
	return list.slice(0, 10);
})()`

	outline = `[
	...[...document.querySelectorAll("table")].filter(t => !t.caption?.textContent.trim()).map(t => "table without caption: " + t.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("svg[role=img]")].filter(s => !s.querySelector("title")?.textContent || (s.querySelector("desc")?.textContent ?? "").length < 20).map(s => "picture without title or description: " + s.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("svg:not([role=img])")].filter(s => s.getAttribute("aria-hidden") !== "true").map(s => "picture without role: " + s.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("section, .scroll")].filter(s => !document.getElementById(s.getAttribute("aria-labelledby"))).map(s => "section without heading: " + s.outerHTML.slice(0, 100)),
	...(document.querySelectorAll("h1").length === 1 ? [] : ["not one h1"]),
	...(document.documentElement.lang === "en" ? [] : ["no language"]),
	...[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i).map(id => "two elements have the id " + id),
	...[...document.querySelectorAll("th:not([scope])")].map(e => "th without scope: " + e.textContent),
	...[...document.querySelectorAll("a[href^='#']")].filter(a => !document.querySelector(a.getAttribute("href"))).map(a => "no target: " + a.href),
]`

	sameKeys = `[...document.querySelectorAll(".keys")].flatMap(k => [...k.querySelectorAll("svg")].map(s => s.innerHTML).filter((s, i, all) => all.indexOf(s) !== i))`
)
