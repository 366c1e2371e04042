package admin

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"
)

//go:embed page
var files embed.FS

// sections are the parts of the page that are renewed: templates of these
// names, and elements with these IDs.
var sections = []string{
	"state", "charts", "receiving", "shards", "trains", "drops", "answers", "work", "limits",
	"saved", "sink", "certs", "process", "recent", "others",
}

// pages renders the page, at most once a sample, however many look at it.
type pages struct {
	template *template.Template

	mu        sync.Mutex
	seq       uint64 // of the sample rendered; 0 before the first
	html      []byte
	json      []byte // without sections
	jsonParts []byte // with them
}

func newPages(window string) (*pages, error) {
	t, err := template.New("status.html").Funcs(template.FuncMap{
		"clock":  func(t time.Time) string { return t.UTC().Format(time.TimeOnly) },
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"count":  whole,
		"window": func() string { return window },
	}).ParseFS(files, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("admin: page: %w", err)
	}
	return &pages{template: t}, nil
}

// Handler is all of it, guarded.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", a.servePage)
	mux.HandleFunc("/status.json", a.serveStatus)
	mux.Handle("/metrics", a.metricsHandler())
	mux.HandleFunc("/healthz", a.serveHealth)
	mux.HandleFunc("/readyz", a.serveReady)
	mux.HandleFunc("/debug/config", a.serveConfig)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/status.css", file("status.css", "text/css; charset=utf-8"))
	mux.HandleFunc("/status.js", file("status.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("/favicon.svg", file("favicon.svg", "image/svg+xml"))
	return a.guard(mux)
}

func file(name, mime string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b, err := files.ReadFile("page/" + name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", mime)
		_, _ = w.Write(b)
	}
}

func (a *Admin) servePage(w http.ResponseWriter, _ *http.Request) {
	html, _, _, err := a.rendered()
	reply(w, "text/html; charset=utf-8", html, err)
}

func (a *Admin) serveStatus(w http.ResponseWriter, r *http.Request) {
	_, plain, parts, err := a.rendered()
	if r.URL.Query().Has("html") {
		plain = parts
	}
	reply(w, "application/json", plain, err)
}

func reply(w http.ResponseWriter, mime string, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", mime)
	_, _ = w.Write(body)
}

// rendered is the page and the JSON of the last sample.
func (a *Admin) rendered() (html, plain, parts []byte, err error) {
	g := a.pages
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := a.sampler.last(); last != g.seq {
		if err := a.render(); err != nil {
			return nil, nil, nil, err
		}
	}
	if g.seq == 0 {
		return nil, nil, nil, fmt.Errorf("nothing has been measured yet; try again in a second")
	}
	return g.html, g.json, g.jsonParts, nil
}

// render renews the page. g.mu is held.
func (a *Admin) render() error {
	g := a.pages
	history, seq := a.sampler.history()
	p := a.status(history)
	var b bytes.Buffer
	if err := g.template.Execute(&b, p); err != nil {
		return fmt.Errorf("admin: page: %w", err)
	}
	html := bytes.Clone(b.Bytes())
	plain, err := json.Marshal(p.Status)
	if err != nil {
		return fmt.Errorf("admin: status: %w", err)
	}
	p.Sections = make(map[string]string, len(sections))
	for _, name := range sections {
		b.Reset()
		if err := g.template.ExecuteTemplate(&b, name, p); err != nil {
			return fmt.Errorf("admin: page: %w", err)
		}
		p.Sections[name] = b.String()
	}
	parts, err := json.Marshal(p.Status)
	if err != nil {
		return fmt.Errorf("admin: status: %w", err)
	}
	g.html, g.json, g.jsonParts, g.seq = html, plain, parts, seq
	return nil
}
