package peer

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Chromium finds the browser, or Chrome.
func Chromium() (Program, error) {
	var first error
	for _, executable := range []string{"chromium", "google-chrome", "chromium-browser"} {
		p, err := findProgram("Chromium", executable, "chromium", chromiumVersion)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return Program{}, first
}

// chromiumVersion asks the browser: "Chromium 156.0.8078.108 built on …".
func chromiumVersion(path string) string {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "unknown version"
	}
	for _, field := range strings.Fields(string(out)) {
		if field[0] >= '0' && field[0] <= '9' {
			return field
		}
	}
	return strings.TrimSpace(string(out))
}

// A Page is what a browser is to load, and how.
type Page struct {
	// URL is the page; its host and port are spoken to by QUIC alone.
	URL string
	// Origin is the host and port of URL.
	Origin string
	// Leaf is the server's certificate, which is trusted for its key.
	Leaf *x509.Certificate
	// Screenshot is where a picture of the page goes, as PNG; none if it is empty.
	Screenshot string
	// NetLog is where the browser's network log goes, as JSON; none if it is empty.
	NetLog string
	// Budget is how much of its own time the page has for its scripts.
	Budget time.Duration
}

// LoadPage loads a page in a headless browser with a profile of its own, and
// returns its document as scripts have left it.
//
// A flag alone does not make Chromium (156) trust a certificate over QUIC: the
// key must be named. Forcing the origin does without Alt-Svc, which is
// learnt over TCP.
func LoadPage(ctx context.Context, browser Program, page Page) (document string, err error) {
	profile, err := os.MkdirTemp("", "tailfin-chromium-")
	if err != nil {
		return "", err
	}
	defer removeAll(profile)
	spki := sha256.Sum256(page.Leaf.RawSubjectPublicKeyInfo)
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-breakpad", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir=" + profile,
		"--origin-to-force-quic-on=" + page.Origin,
		"--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(spki[:]),
		"--window-size=1000,800",
		"--dump-dom",
	}
	if page.Budget > 0 {
		args = append(args, "--virtual-time-budget="+strconv.FormatInt(page.Budget.Milliseconds(), 10))
	}
	if page.Screenshot != "" {
		args = append(args, "--screenshot="+page.Screenshot)
	}
	if page.NetLog != "" {
		args = append(args, "--log-net-log="+page.NetLog)
	}
	document, _, err = browser.run(ctx, append(args, page.URL)...)
	return document, err
}

// removeAll removes a profile, into which a process of the browser may still
// be writing.
func removeAll(dir string) {
	for range 20 {
		if os.RemoveAll(dir) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
