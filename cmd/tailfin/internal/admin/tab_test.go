package admin

import (
	"context"
	"fmt"
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

// pollInterval is how often the browser looks for what a test waits for.
const pollInterval = 50 * time.Millisecond

// A tab is a page in a headless browser, and what went wrong in it.
type tab struct {
	context.Context
	mu       sync.Mutex
	requests []string
	trouble  []string // console output, exceptions, CSP violations, failed requests
}

// newTab starts a browser with a profile of its own.
func newTab(t *testing.T) *tab {
	t.Helper()
	browser, err := peer.Chromium()
	if err != nil {
		t.Skip(err)
	}
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
		if ev.Entry.Level == cdplog.EntryLevelError || ev.Entry.Level == cdplog.EntryLevelWarning {
			tb.trouble = append(tb.trouble, fmt.Sprintf("%s: %s (%s)", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL))
		}
	case *cdpruntime.EventConsoleAPICalled:
		tb.trouble = append(tb.trouble, fmt.Sprintf("console.%s", ev.Type))
	case *cdpruntime.EventExceptionThrown:
		tb.trouble = append(tb.trouble, ev.ExceptionDetails.Text)
	}
}

// seen is what the browser has asked for, and its trouble.
func (tb *tab) seen() (requests, trouble []string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return tb.requests, tb.trouble
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

// eval is the value of an expression in the page.
func eval[T any](t *testing.T, tb *tab, expression string) T {
	t.Helper()
	return value(t, tb, chromedp.Evaluate[T](expression))
}

// until waits for an expression to be true.
func (tb *tab) until(t *testing.T, expression string) {
	t.Helper()
	value(t, tb, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(pollInterval)))
}

// changes waits for an expression to have another value than now.
func (tb *tab) changes(t *testing.T, expression string) {
	t.Helper()
	tb.until(t, fmt.Sprintf("(%s) !== %s", expression, quoteJS(eval[string](t, tb, expression))))
}

// quoteJS is s as a literal.
func quoteJS(s string) string {
	r := strings.NewReplacer("\\", "\\\\", "`", "\\`", "$", "\\$")
	return "`" + r.Replace(s) + "`"
}

// view sets the size and the colours of the screen.
func (tb *tab) view(t *testing.T, width, height int64, scheme string) {
	t.Helper()
	command(t, tb, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	command(t, tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// renewed waits for an answer to the page's script.
func (tb *tab) renewed(t *testing.T) {
	t.Helper()
	tb.changes(t, `document.documentElement.dataset.renewed ?? ""`)
}
