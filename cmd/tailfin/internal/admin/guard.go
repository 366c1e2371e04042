package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// localKey is the key of whether a request came by a listener that only this
// machine reaches.
type localKey struct{}

func (a *Admin) baseContext(ln net.Listener) context.Context {
	return context.WithValue(context.Background(), localKey{}, isLocal(ln.Addr()))
}

// Content security policies: of what is made here, and of the index of
// net/http/pprof, which has a style element.
const (
	frameless     = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " + frameless
	profilePolicy = "default-src 'none'; style-src 'unsafe-inline'; " + frameless
)

// debugPath begins what costs something, or says more than numbers.
const debugPath = "/debug/"

// guard lets through what an operator or a scraper asks, and nothing that a
// web page elsewhere could have a browser ask.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", contentPolicy)
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			h.Set("Content-Security-Policy", profilePolicy)
		}
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "use GET or HEAD; nothing can be changed here", http.StatusMethodNotAllowed)
			return
		case !a.ourHost(r.Host):
			http.Error(w, fmt.Sprintf("this is not %q; use localhost, an IP address, or a name that the admin address was told to answer for", r.Host), http.StatusMisdirectedRequest)
			return
		case foreign(r):
			http.Error(w, "asked for by a page of another site; open it directly", http.StatusForbidden)
			return
		}
		limit := writeTimeout
		if strings.HasPrefix(r.URL.Path, debugPath) {
			if local, _ := r.Context().Value(localKey{}).(bool); !local && !a.opts.ExposeDebug {
				http.Error(w, "/debug/ answers on loopback addresses and Unix sockets only, unless it is exposed by the configuration", http.StatusForbidden)
				return
			}
			limit += profileTimeout
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		next.ServeHTTP(w, r)
	})
}

// ourHost tells whether a request may be for a host. An attacker who has a name
// of his own resolve to our address does not get past it: his page asks for his
// name. Requests of HTTP/1.0 may have none, and come from no browser.
func (a *Admin) ourHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	for _, name := range a.opts.Hosts {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

// foreign tells what a page of another site embeds or fetches, from a link that
// someone follows (W3C Fetch Metadata). What is not a browser says neither. Frames
// navigate too, and nobody has to see them; a link must not start a profile.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site": // another port of localhost is the same site
		dest := r.Header.Get("Sec-Fetch-Dest")
		followed := r.Header.Get("Sec-Fetch-Mode") == "navigate" && (dest == "document" || dest == "")
		return !followed || strings.HasPrefix(r.URL.Path, debugPath)
	}
	return false
}
