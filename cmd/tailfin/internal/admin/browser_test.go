package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// screenshotDir names the variable with a folder in which pictures are kept.
const screenshotDir = "TAILFIN_SCREENSHOT_DIR"

func TestBrowser(t *testing.T) {
	tb := newTab(t)
	d := newDaemon(t, 2)
	d.load(t)
	shots := os.Getenv(screenshotDir)
	interval := sampleInterval
	if shots != "" {
		interval = 200 * time.Millisecond // the charts are full in a minute, and say so
	}
	a, err := newAdmin(d.options(), interval)
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, a)
	tb.view(t, 1440, 1000, "light")
	eventually(t, "samples", func() bool { return a.sampler.last() > 2 })
	tb.do(t, chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS("#charts")))

	t.Run("numbers move", func(t *testing.T) {
		tb.renewed(t)
		tb.changes(t, `document.querySelector("#work").innerText`)
		tb.changes(t, `document.querySelector("#trains").innerText`)
		tb.changes(t, `document.querySelector("[data-chart=datagrams] .line").getAttribute("d")`)
		tb.changes(t, `document.querySelector("[data-chart=bits] .now").innerText`)
		tb.until(t, `document.querySelector("#live").textContent === "live"`)
	})

	t.Run("values at the pointer", func(t *testing.T) {
		at := eval[[]float64](t, tb, `(r => [r.right - 2, r.top + 20])(document.querySelector("[data-chart=datagrams] .plot").getBoundingClientRect())`)
		tb.do(t, chromedp.MouseEvent("mouseMoved", at[0], at[1]), chromedp.WaitVisible(chromedp.CSS("#tip")))
		if text := eval[string](t, tb, `document.querySelector("#tip").textContent`); !strings.Contains(text, "/s  received") {
			t.Errorf("at the pointer: %q", text)
		}
		tb.do(t, chromedp.MouseEvent("mouseMoved", 2, 2), chromedp.WaitNotVisible(chromedp.CSS("#tip")))
	})

	t.Run("formats are those of the server", func(t *testing.T) {
		for unit, format := range formats {
			for _, v := range []float64{0, 0.001, 0.0123, 1, 9.99, 99.9, 100, 999.4, 999.5, 1234, 12345.6, 9.9995e5, 1.25e9, 3e15} {
				if got, want := eval[string](t, tb, fmt.Sprintf("tailfinFormats[%q](%v)", unit, v)), format(v).String(); got != want {
					t.Errorf("%s of %v is %q in the script, and %q in the page", unit, v, got, want)
				}
			}
		}
	})

	if shots != "" {
		eventually(t, "full charts", func() bool { h, _ := a.sampler.history(); return len(h) == keptSamples })
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"wide", 1440, 1000}, {"narrow", 360, 800}, {"middle", 820, 1000}} {
			t.Run(scheme+" "+size.name, func(t *testing.T) {
				tb.view(t, size.width, size.height, scheme)
				tb.renewed(t)
				if over := eval[int64](t, tb, `document.documentElement.scrollWidth`); over > size.width {
					t.Errorf("the page is %d px wide on a screen of %d: %s", over, size.width, eval[string](t, tb, widest))
				}
				if got := eval[bool](t, tb, `matchMedia("(prefers-color-scheme: dark)").matches`); got != (scheme == "dark") {
					t.Errorf("the browser shows dark: %v", got)
				}
				if faint := eval[[]string](t, tb, faintText); len(faint) > 0 {
					t.Errorf("contrast below 4.5: %s", strings.Join(faint, "\n"))
				}
				if size.name != "middle" {
					shoot(t, tb, "status-"+scheme+"-"+size.name)
				}
			})
		}
	}

	t.Run("outline", func(t *testing.T) {
		for _, bad := range eval[[]string](t, tb, outline) {
			t.Error(bad)
		}
	})

	t.Run("less motion", func(t *testing.T) {
		command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}})
		tb.until(t, `document.querySelector("#live").textContent === "renewed every 5 s"`)
		command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
		tb.until(t, `document.querySelector("#live").textContent === "live"`)
	})

	t.Run("not ready", func(t *testing.T) {
		tb.view(t, 1440, 1000, "dark")
		d.ready.SetReady(false, "draining")
		full := fmt.Errorf("write /var/lib/tailfin/received/.check: %w", syscall.ENOSPC)
		d.broken.Store(&full)
		d.log.Error("upload was not stored", "peer", "192.0.2.7:50123", "name", "report-<b>7</b>", "err", full)
		for _, text := range []string{"Not ready", "draining", "no space left on device"} {
			tb.until(t, `document.querySelector("#state").innerText.includes("`+text+`")`)
		}
		tb.until(t, `document.title.includes("Not ready") && document.querySelector("#sink .bad")?.innerText.includes("Takes nothing")`)
		tb.until(t, `document.querySelector("#recent tbody").innerText.includes("report-<b>7</b>")`)
		if faint := eval[[]string](t, tb, faintText); len(faint) > 0 {
			t.Errorf("contrast below 4.5: %s", strings.Join(faint, "\n"))
		}
		shoot(t, tb, "status-not-ready")
	})

	t.Run("without script", func(t *testing.T) {
		command(t, tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		tb.do(t, chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS("#charts")))
		html := value(t, tb, chromedp.OuterHTML(chromedp.CSS("html")))
		for _, part := range []string{`http-equiv="refresh"`, "Datagrams received", d.addr, d.conns[0].Backend().String()} {
			if !strings.Contains(html, part) {
				t.Errorf("%q is not in the page without a script", part)
			}
		}
		command(t, tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})
		tb.do(t, chromedp.Navigate(base+"/"))
		tb.renewed(t)
	})

	requests, trouble := tb.seen()
	for _, s := range trouble {
		t.Errorf("in the browser: %s", s)
	}
	for _, r := range requests {
		if !strings.HasPrefix(r, base+"/") {
			t.Errorf("the page asked for %s", r)
		}
	}
	if len(requests) < 8 {
		t.Errorf("only %d requests were seen", len(requests))
	}

	t.Run("no answer", func(t *testing.T) {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		tb.until(t, `document.querySelector("#live.lost")?.textContent.startsWith("no answer since")`)
	})
}

// shoot takes a picture, and keeps it if there is a folder for it.
func shoot(t *testing.T, tb *tab, name string) {
	t.Helper()
	png := value(t, tb, chromedp.FullScreenshot(100))
	dir := os.Getenv(screenshotDir)
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// outline lists what a screen reader would miss.
const outline = `[
	...[...document.querySelectorAll("table")].filter(t => !t.caption?.textContent.trim()).map(t => "table without caption: " + t.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("svg[role=img]")].filter(s => !s.querySelector("title")?.textContent || !s.querySelector("desc")?.textContent).map(s => "picture without title or description: " + s.outerHTML.slice(0, 100)),
	...[...document.querySelectorAll("section")].filter(s => !document.getElementById(s.getAttribute("aria-labelledby"))).map(s => "section without heading: " + s.outerHTML.slice(0, 100)),
	...(document.querySelectorAll("h1").length === 1 ? [] : ["not one h1"]),
	...(document.documentElement.lang === "en" ? [] : ["no language"]),
	...[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i).map(id => "two elements have the id " + id),
	...[...document.querySelectorAll("th:not([scope])")].map(e => "th without scope: " + e.textContent),
]`

// widest names what is beyond the right edge.
const widest = `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll")).slice(0, 5).map(e => e.tagName + "." + e.className + " " + Math.round(e.getBoundingClientRect().right)).join(", ")`

// faintText lists texts whose contrast with what is behind them is below 4.5
// (WCAG 2 §1.4.3).
const faintText = `(() => {
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
	const light = rgb => rgb.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = el => {
		if (!el) return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
		const { rgb, a } = parse(getComputedStyle(el).backgroundColor);
		if (a === 1) return rgb;
		const below = behind(el.parentElement);
		return rgb.map((v, i) => v * a + below[i] * (1 - a));
	};
	const faint = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const el = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || el.closest("svg, [hidden], script")) continue;
		const [a, b] = [light(parse(getComputedStyle(el).color).rgb), light(behind(el))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faint.push(ratio.toFixed(2) + " " + walk.currentNode.data.trim().slice(0, 40));
	}
	return faint;
})()`
