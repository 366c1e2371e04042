// Package browser has tests show a page in Chromium, use it, and look for what is wrong
// with it. What cannot be done fails the test; a machine without a browser skips it.
package browser

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
	// ScreenshotDir names the variable of the environment with a folder in which Shoot keeps
	// its pictures.
	ScreenshotDir = "TAILFIN_SCREENSHOT_DIR"
	// patience is far more than a browser on a busy machine needs.
	patience = 2 * time.Minute
	// pollInterval is how often the browser looks for what a test waits for.
	pollInterval = 50 * time.Millisecond
)

// A Tab is a page in a headless browser, and what went wrong in it.
type Tab struct {
	ctx context.Context

	mu       sync.Mutex
	requests []string
	trouble  []string
}

// Open starts a browser with a profile of its own, which ends with the test.
func Open(t *testing.T) *Tab {
	t.Helper()
	program, err := peer.Chromium()
	if err != nil {
		t.Skip(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program.Path), chromedp.NoSandbox, chromedp.DisableGPU)
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		cancel()
		stop()
	})
	tab := &Tab{ctx: ctx}
	if err := chromedp.Listen(ctx, tab.listen); err != nil {
		t.Fatal(err)
	}
	Command(t, tab, network.Enable, network.EnableParams{})
	Command(t, tab, cdplog.Enable, cdp.Empty{})
	Command(t, tab, cdpruntime.Enable, cdp.Empty{})
	return tab
}

// listen is called by the goroutine that reads from the browser.
func (tab *Tab) listen(ev any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		tab.requests = append(tab.requests, ev.Request.URL)
	case *cdplog.EventEntryAdded:
		if ev.Entry.Level == cdplog.EntryLevelError || ev.Entry.Level == cdplog.EntryLevelWarning {
			tab.trouble = append(tab.trouble, fmt.Sprintf("%s: %s (%s)", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL))
		}
	case *cdpruntime.EventConsoleAPICalled:
		tab.trouble = append(tab.trouble, fmt.Sprintf("console.%s", ev.Type))
	case *cdpruntime.EventExceptionThrown:
		tab.trouble = append(tab.trouble, ev.ExceptionDetails.Text)
	}
}

// Seen is what the browser has asked for, and its trouble: console output, exceptions, what
// the page's policy forbids, and requests that failed.
func (tab *Tab) Seen() (requests, trouble []string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.requests, tab.trouble
}

// Do takes steps one after the other.
func (tab *Tab) Do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// Value is what a step yields.
func Value[T any](t *testing.T, tab *Tab, step chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, step)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Command gives the browser a command of its protocol.
func Command[P, R any](t *testing.T, tab *Tab, c cdp.Command[P, R], params P) {
	t.Helper()
	Value(t, tab, func(ctx context.Context, target *chromedp.Target) (R, error) { return cdp.Call(ctx, target, c, params) })
}

// Eval is the value of an expression in the page.
func Eval[T any](t *testing.T, tab *Tab, expression string) T {
	t.Helper()
	return Value(t, tab, chromedp.Evaluate[T](expression))
}

// Until waits for an expression to be true.
func (tab *Tab) Until(t *testing.T, expression string) {
	t.Helper()
	Value(t, tab, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(pollInterval)))
}

// Changes waits for an expression, a string, to have another value than now.
func (tab *Tab) Changes(t *testing.T, expression string) {
	t.Helper()
	tab.Until(t, fmt.Sprintf("(%s) !== %s", expression, quoteJS(Eval[string](t, tab, expression))))
}

// quoteJS is s as a literal.
func quoteJS(s string) string {
	r := strings.NewReplacer("\\", "\\\\", "`", "\\`", "$", "\\$")
	return "`" + r.Replace(s) + "`"
}

// View sets the size of the screen in pixels and its colours, light or dark. Below 600 it
// is one of a phone.
func (tab *Tab) View(t *testing.T, width, height int64, scheme string) {
	t.Helper()
	Command(t, tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	Command(t, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// Shoot keeps a picture of the whole page, if there is a folder for it.
func (tab *Tab) Shoot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv(ScreenshotDir)
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), Value(t, tab, chromedp.FullScreenshot(100)), 0o644); err != nil {
		t.Fatal(err)
	}
}
