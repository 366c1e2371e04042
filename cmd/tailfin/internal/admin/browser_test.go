package admin

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/tailfin-quic/tailfin/bench/browser"
)

func TestBrowser(t *testing.T) {
	tb := browser.Open(t)
	d := newDaemon(t, 2)
	d.load(t)
	shots := os.Getenv(browser.ScreenshotDir)
	interval := sampleInterval
	if shots != "" {
		interval = 200 * time.Millisecond // the charts are full in a minute, and say so
	}
	a, err := newAdmin(d.options(), interval)
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, a)
	tb.View(t, 1440, 1000, "light")
	eventually(t, "samples", func() bool { return a.sampler.last() > 2 })
	tb.Do(t, chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS("#charts")))

	t.Run("numbers move", func(t *testing.T) {
		renewed(t, tb)
		tb.Changes(t, `document.querySelector("#work").innerText`)
		tb.Changes(t, `document.querySelector("#trains").innerText`)
		tb.Changes(t, `document.querySelector("[data-chart=datagrams] .line").getAttribute("d")`)
		tb.Changes(t, `document.querySelector("[data-chart=bits] .now").innerText`)
		tb.Until(t, `document.querySelector("#live").textContent === "live"`)
	})

	t.Run("values at the pointer", func(t *testing.T) {
		at := browser.Eval[[]float64](t, tb, `(r => [r.right - 2, r.top + 20])(document.querySelector("[data-chart=datagrams] .plot").getBoundingClientRect())`)
		tb.Do(t, chromedp.MouseEvent("mouseMoved", at[0], at[1]), chromedp.WaitVisible(chromedp.CSS("#tip")))
		if text := browser.Eval[string](t, tb, `document.querySelector("#tip").textContent`); !strings.Contains(text, "/s  received") {
			t.Errorf("at the pointer: %q", text)
		}
		tb.Do(t, chromedp.MouseEvent("mouseMoved", 2, 2), chromedp.WaitNotVisible(chromedp.CSS("#tip")))
	})

	t.Run("formats are those of the server", func(t *testing.T) {
		for unit, format := range formats {
			for _, v := range []float64{0, 0.001, 0.0123, 1, 9.99, 99.9, 100, 999.4, 999.5, 1234, 12345.6, 9.9995e5, 1.25e9, 3e15} {
				if got, want := browser.Eval[string](t, tb, fmt.Sprintf("tailfinFormats[%q](%v)", unit, v)), format(v).String(); got != want {
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
				tb.View(t, size.width, size.height, scheme)
				renewed(t, tb)
				for _, wide := range tb.TooWide(t) {
					t.Errorf("beyond the right edge: %s", wide)
				}
				if got := browser.Eval[bool](t, tb, `matchMedia("(prefers-color-scheme: dark)").matches`); got != (scheme == "dark") {
					t.Errorf("the browser shows dark: %v", got)
				}
				for _, faint := range tb.Faint(t) {
					t.Errorf("contrast below 4.5: %s", faint)
				}
				if size.name != "middle" {
					tb.Shoot(t, "status-"+scheme+"-"+size.name)
				}
			})
		}
	}

	t.Run("outline", func(t *testing.T) {
		for _, bad := range tb.Outline(t) {
			t.Error(bad)
		}
	})

	t.Run("less motion", func(t *testing.T) {
		browser.Command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}})
		tb.Until(t, `document.querySelector("#live").textContent === "renewed every 5 s"`)
		browser.Command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
		tb.Until(t, `document.querySelector("#live").textContent === "live"`)
	})

	t.Run("not ready", func(t *testing.T) {
		tb.View(t, 1440, 1000, "dark")
		d.ready.SetReady(false, "draining")
		full := fmt.Errorf("write /var/lib/tailfin/received/.check: %w", syscall.ENOSPC)
		d.broken.Store(&full)
		d.log.Error("upload was not stored", "peer", "192.0.2.7:50123", "name", "report-<b>7</b>", "err", full)
		for _, text := range []string{"Not ready", "draining", "no space left on device"} {
			tb.Until(t, `document.querySelector("#state").innerText.includes("`+text+`")`)
		}
		tb.Until(t, `document.title.includes("Not ready") && document.querySelector("#sink .bad")?.innerText.includes("Takes nothing")`)
		tb.Until(t, `document.querySelector("#recent tbody").innerText.includes("report-<b>7</b>")`)
		for _, faint := range tb.Faint(t) {
			t.Errorf("contrast below 4.5: %s", faint)
		}
		tb.Shoot(t, "status-not-ready")
	})

	t.Run("without script", func(t *testing.T) {
		browser.Command(t, tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		tb.Do(t, chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS("#charts")))
		html := browser.Value(t, tb, chromedp.OuterHTML(chromedp.CSS("html")))
		for _, part := range []string{`http-equiv="refresh"`, "Datagrams received", d.addr, d.conns[0].Backend().String()} {
			if !strings.Contains(html, part) {
				t.Errorf("%q is not in the page without a script", part)
			}
		}
		browser.Command(t, tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})
		tb.Do(t, chromedp.Navigate(base+"/"))
		renewed(t, tb)
	})

	requests, trouble := tb.Seen()
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
		tb.Until(t, `document.querySelector("#live.lost")?.textContent.startsWith("no answer since")`)
	})
}

// renewed waits for an answer to the page's script.
func renewed(t *testing.T, tb *browser.Tab) {
	t.Helper()
	tb.Changes(t, `document.documentElement.dataset.renewed ?? ""`)
}
