package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// checkPath returns what is wrong with a decoded path. Segments of dots would leave
// the prefix at an upstream that resolves them, and clients resolve them before they
// ask (RFC 3986 §5.2.4). Some upstreams take a backslash for a slash, and some drop
// what follows a semicolon.
func checkPath(path string) string {
	for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		segment, _, _ = strings.Cut(segment, ";")
		if segment == "." || segment == ".." {
			return "the path has a segment of dots"
		}
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "the path has a control character"
	}
	return ""
}

// checkTarget returns what is wrong with the target of a request.
func checkTarget(r *http.Request) string {
	switch {
	case r.URL.Host != "" || r.URL.Opaque != "":
		return "the target is a URL; give a path"
	case r.URL.Path == "*" && r.Method == http.MethodOptions:
		return ""
	case !strings.HasPrefix(r.URL.Path, "/"):
		return "the path does not begin with a slash"
	case strings.Contains(r.URL.RawQuery, "#"), strings.Contains(r.URL.RawPath, "#"):
		return "the target has a fragment" // where one server ends it and another does not
	}
	return checkPath(r.URL.Path)
}

// newPseudonym is how an instance calls itself in Via (RFC 9110 §7.6.3). It differs
// from that of any other, so that one that meets itself knows of a loop.
func newPseudonym() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return "tailfin-" + hex.EncodeToString(b[:])
}

// looped tells a request that has been here.
func (g *Gateway) looped(r *http.Request) bool {
	for _, line := range r.Header.Values("Via") {
		for hop := range strings.SplitSeq(line, ",") {
			if fields := strings.Fields(hop); len(fields) > 1 && fields[1] == g.pseudonym {
				return true
			}
		}
	}
	return false
}

// rewrite makes the request that goes to the upstream.
func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	if p.In.URL.Path == "*" {
		p.Out.URL = &url.URL{Scheme: g.upstream.url.Scheme, Host: g.upstream.url.Host, Path: "*"}
		p.Out.Host = ""
	} else {
		p.SetURL(g.upstream.url)
		p.Out.URL.RawQuery = p.In.URL.RawQuery // nothing here reads it
	}
	if g.conf.PreserveHost {
		p.Out.Host = p.In.Host
	}
	// What a client says of itself counts for nothing: it is replaced.
	for name := range p.Out.Header {
		if isForwardingField(name) {
			delete(p.Out.Header, name)
		}
	}
	p.SetXForwarded()
	p.Out.Header.Set("Forwarded", forwarded(p.In))
	p.Out.Header.Add("Via", fmt.Sprintf("%d.%d %s", p.In.ProtoMajor, p.In.ProtoMinor, g.pseudonym))
	// The map that the body fills at its end; ReverseProxy has copied it before.
	p.Out.Trailer = p.In.Trailer
	delete(p.Out.Header, "Upgrade") // HTTP/3 has none (RFC 9114 §4.5)
	delete(p.Out.Header, "Connection")
}

// isForwardingField tells a field by which proxies say who the client is, and Proxy, of
// which CGI makes HTTP_PROXY. Upstreams that make environment variables of fields take _
// for -.
func isForwardingField(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	switch name {
	case "forwarded", "proxy", "x-real-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-original-url", "x-rewrite-url":
		return true
	}
	return strings.HasPrefix(name, "x-forwarded")
}

// cleanTrailer takes out of a trailer what is not to be there: net/http would fail the
// request with some names (RFC 9110 §6.5.1), for which the upstream is not to blame, and
// others would come past what rewrite does to the header.
func cleanTrailer(trailer http.Header) {
	for name := range trailer {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidTrailerHeader(name) || isForwardingField(name) {
			delete(trailer, name)
		}
	}
}

// forwarded is the value of Forwarded (RFC 7239 §4) for a request.
func forwarded(r *http.Request) string {
	var b strings.Builder
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		b.WriteString("for=" + quote(host) + ";")
	}
	if r.Host != "" {
		b.WriteString("host=" + quote(r.Host) + ";")
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	b.WriteString("proto=" + proto)
	return b.String()
}

// quote makes a quoted-string (RFC 9110 §5.6.4) of what has no control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
