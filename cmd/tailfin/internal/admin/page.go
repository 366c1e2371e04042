package admin

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
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

// pages renders what is asked for, at most once a sample, however many look.
type pages struct {
	template *template.Template

	mu    sync.Mutex
	seq   uint64 // of the sample that view is of; 0 before the first
	view  view
	forms [forms][]byte // of view; nil if nobody has asked for it yet
}

// The forms that a view is rendered in.
const (
	asHTML  = iota // the page
	asJSON         // without sections
	asParts        // JSON with sections
	forms
)

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

// handler is all of it, guarded.
func (a *Admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", a.servePage)
	mux.HandleFunc("/status.json", a.serveStatus)
	mux.Handle("/metrics", a.metricsHandler())
	mux.HandleFunc("/healthz", a.serveHealth)
	mux.HandleFunc("/readyz", a.serveReady)
	mux.HandleFunc("/debug/config", a.serveConfig)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
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
	html, err := a.rendered(asHTML)
	reply(w, "text/html; charset=utf-8", html, err)
}

func (a *Admin) serveStatus(w http.ResponseWriter, r *http.Request) {
	form := asJSON
	if r.URL.Query().Has("html") {
		form = asParts
	}
	b, err := a.rendered(form)
	reply(w, "application/json", b, err)
}

func reply(w http.ResponseWriter, mime string, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", mime)
	_, _ = w.Write(body)
}

// rendered is the last sample in a form.
func (a *Admin) rendered(form int) ([]byte, error) {
	g := a.pages
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.sampler.last() != g.seq {
		history, seq := a.sampler.history()
		g.view, g.seq, g.forms = a.status(history), seq, [forms][]byte{}
	}
	if g.seq == 0 {
		return nil, errors.New("nothing has been measured yet; try again in a second")
	}
	if g.forms[form] == nil {
		b, err := g.render(form)
		if err != nil {
			return nil, fmt.Errorf("admin: page: %w", err)
		}
		g.forms[form] = b
	}
	return g.forms[form], nil
}

// render is the view in a form. g.mu is held.
func (g *pages) render(form int) ([]byte, error) {
	var b bytes.Buffer
	switch form {
	case asHTML:
		err := g.template.Execute(&b, g.view)
		return b.Bytes(), err
	case asJSON:
		return json.Marshal(g.view.Status)
	}
	status := g.view.Status
	status.Sections = make(map[string]string, len(sections))
	for _, name := range sections {
		b.Reset()
		if err := g.template.ExecuteTemplate(&b, name, g.view); err != nil {
			return nil, err
		}
		status.Sections[name] = b.String()
	}
	return json.Marshal(status)
}
