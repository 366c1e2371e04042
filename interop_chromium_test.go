package tailfin

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// screenshotDir names the variable with a folder in which pictures of what the
// browser showed are kept.
const screenshotDir = "TAILFIN_SCREENSHOT_DIR"

//go:embed testdata/browser.html
var browserPage string

//go:embed testdata/browser.js
var browserScript string

// A browserSite is a small site and the log of its requests.
type browserSite struct {
	requestLog
	page *template.Template
	mux  *http.ServeMux
}

func newBrowserSite(backend string) *browserSite {
	s := &browserSite{page: template.Must(template.New("page").Parse(browserPage)), mux: http.NewServeMux()}
	show := func(title string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_ = s.page.Execute(w, map[string]any{"Title": title, "Backend": backend, "Requests": s.requests, "Script": title == "Requests"})
		}
	}
	s.mux.HandleFunc("GET /{$}", show("Requests"))
	s.mux.HandleFunc("GET /log", show("Log"))
	s.mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		_, _ = fmt.Fprint(w, "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #888;padding:.3em .6em;text-align:left}#result{font-weight:bold}")
	})
	s.mux.HandleFunc("GET /script.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = fmt.Fprint(w, browserScript)
	})
	s.mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return s
}

func (s *browserSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, pattern := s.mux.Handler(r); pattern != "" {
		h.ServeHTTP(w, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, loggedRequest{Method: r.Method, Path: r.URL.Path, Proto: r.Proto, Peer: r.RemoteAddr, Agent: r.UserAgent(), Status: http.StatusOK})
		return
	}
	s.requestLog.ServeHTTP(w, r)
}

// interopChromium has a browser load a site of ours, which has nothing but a
// UDP socket.
func interopChromium(t *testing.T, table *interopTable) {
	browser := program(t, table, peer.Chromium)
	c := interopCase{table: table, peer: browser, direction: toServer}
	for _, backend := range backends(t) {
		c.reader = backend.String() + ", IPv4"
		t.Run(backend.String(), func(t *testing.T) {
			site := newBrowserSite(backend.String())
			addr := startServer(t, &Server{Handler: site}, udp.WithBackend(backend))
			dir := os.Getenv(screenshotDir)
			if dir == "" {
				dir = t.TempDir()
			}
			load := func(t *testing.T, path, picture, netLog string) string {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), maxForeign)
				defer cancel()
				document, err := peer.LoadPage(ctx, browser, peer.Page{
					URL: "https://" + addr + path, Origin: addr, Leaf: cert(t).Leaf,
					Screenshot: picture, NetLog: netLog, Budget: 10 * time.Second,
				})
				if err != nil {
					t.Fatal(err)
				}
				return document
			}
			c.run(t, "page, style, script, 20 fetches, POST 100 kB", func(t *testing.T) {
				picture := filepath.Join(dir, "chromium-"+backend.String()+".png")
				netLog := filepath.Join(t.TempDir(), "net.json")
				document := load(t, "/", picture, netLog)
				if !strings.Contains(document, `id="result">all 21 whole, by h3<`) {
					t.Fatalf("the script has not ended well:\n%s", document)
				}
				checkPicture(t, picture)
				checkNetLog(t, netLog)
				paths := map[string]int{}
				for _, r := range site.seen() {
					paths[r.Method+" "+r.Path]++
					if r.Proto != "HTTP/3.0" || !strings.Contains(r.Agent, "Chrome") {
						t.Errorf("%+v", r)
					}
				}
				for _, path := range []string{"GET /", "GET /style.css", "GET /script.js", "GET /bytes/0", "GET /bytes/19000", "POST /echo"} {
					want(t, paths[path], 1)
				}
			})
			c.run(t, "page with the server's log", func(t *testing.T) {
				document := load(t, "/log", filepath.Join(dir, "chromium-"+backend.String()+"-log.png"), "")
				for _, text := range []string{"<td>POST</td><td>/echo</td><td>HTTP/3.0</td>", "<td>GET</td><td>/bytes/19000</td><td>HTTP/3.0</td>", "Chrome/"} {
					if !strings.Contains(document, text) {
						t.Errorf("%q is not in\n%s", text, document)
					}
				}
			})
		})
	}
}

// checkPicture wants a PNG that is not of one colour.
func checkPicture(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if img.At(x, y) != img.At(bounds.Min.X, bounds.Min.Y) {
				return
			}
		}
	}
	t.Fatal("the picture is empty")
}

// checkNetLog wants a QUIC session in the browser's own log.
func checkNetLog(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var log struct {
		Constants struct {
			LogEventTypes map[string]int `json:"logEventTypes"`
		} `json:"constants"`
		Events []struct {
			Type int `json:"type"`
		} `json:"events"`
	}
	if err := json.Unmarshal(b, &log); err != nil {
		t.Fatal(err)
	}
	quicSession, known := log.Constants.LogEventTypes["QUIC_SESSION"]
	for _, ev := range log.Events {
		if known && ev.Type == quicSession {
			return
		}
	}
	t.Fatal("no QUIC session in the browser's log")
}
