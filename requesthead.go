package tailfin

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"

	"github.com/tailfin-quic/tailfin/h3frame"
)

const userAgent = "tailfin"

// checkRequest refuses what HTTP/3 cannot carry, and returns host:port.
func checkRequest(req *http.Request) (authority string, err error) {
	if req.URL == nil || req.URL.Host == "" {
		return "", badRequest("request without a host; give an absolute https:// URL")
	}
	if req.URL.Scheme != "https" {
		return "", badRequest("scheme %q is not served; HTTP/3 needs https", req.URL.Scheme)
	}
	if req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) {
		return "", badRequest("invalid method %q", req.Method)
	}
	if req.Host != "" && !httpguts.ValidHostHeader(req.Host) {
		return "", badRequest("invalid host %q", req.Host)
	}
	for name, values := range req.Header {
		if name == protocolField {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return "", badRequest("invalid header name %q", name)
		}
		if slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return "", badRequest("invalid value of header %q", name)
		}
	}
	for name, values := range req.Trailer {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidTrailerHeader(name) {
			return "", badRequest("invalid trailer name %q", name)
		}
		if slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return "", badRequest("invalid value of trailer %q", name)
		}
	}
	return authorityAddr(req.URL)
}

func badRequest(format string, args ...any) error {
	return &RequestError{Err: fmt.Errorf(format, args...)}
}

// authorityAddr returns host:port of u, in the form that is dialed.
func authorityAddr(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", badRequest("port %q of %s is not in 1 to 65535", port, u.Host)
	}
	if net.ParseIP(host) == nil {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", badRequest("host name %q: %w", host, err)
		}
		host = ascii
	}
	return net.JoinHostPort(host, port), nil
}

// protocolField asks for an extended CONNECT as golang.org/x/net/http2 does.
const protocolField = ":protocol"

// connectProtocol returns the :protocol of an extended CONNECT (RFC 9220), empty
// for any other request. It is asked for by http.Request.Proto, as with
// quic-go/http3, or by the header field ":protocol", as with x/net/http2.
func connectProtocol(req *http.Request) string {
	if req.Method != http.MethodConnect {
		return ""
	}
	if v := req.Header[protocolField]; len(v) > 0 {
		return v[0]
	}
	if req.Proto != "HTTP/1.1" { // what http.NewRequest sets
		return req.Proto
	}
	return ""
}

// requestHead is the header section of req.
func requestHead(req *http.Request) (h3frame.RequestHead, error) {
	head := h3frame.RequestHead{
		Method:    req.Method,
		Scheme:    req.URL.Scheme,
		Authority: req.Host,
		Protocol:  connectProtocol(req),
		Header:    req.Header.Clone(),
	}
	if head.Method == "" {
		head.Method = http.MethodGet
	}
	if head.Authority == "" {
		head.Authority = req.URL.Host
	}
	if ascii, err := httpguts.PunycodeHostPort(head.Authority); err == nil {
		head.Authority = ascii
	}
	if head.Protocol != "" && !httpguts.ValidHeaderFieldName(head.Protocol) {
		return head, badRequest("invalid :protocol %q", head.Protocol)
	}
	if head.Method != http.MethodConnect || head.Protocol != "" {
		path, err := requestPath(req, head.Authority)
		if err != nil {
			return head, err
		}
		head.Path = path
	}
	if head.Header == nil {
		head.Header = make(http.Header)
	}
	fixHeader(req, head)
	return head, nil
}

// requestPath is the :path of req. An opaque URL may have it behind the scheme
// and the authority, as in net/http.
func requestPath(req *http.Request, authority string) (string, error) {
	path := req.URL.RequestURI()
	if path != "*" && !strings.HasPrefix(path, "/") {
		path = strings.TrimPrefix(path, req.URL.Scheme+"://"+authority)
	}
	if !strings.HasPrefix(path, "/") && (path != "*" || req.Method != http.MethodOptions) {
		return "", badRequest("invalid :path %q", path)
	}
	return path, nil
}

// fixHeader makes the fields that are the client's own business, in head.Header.
// Those that speak of a connection h3frame leaves out.
func fixHeader(req *http.Request, head h3frame.RequestHead) {
	h := head.Header
	delete(h, protocolField)
	h.Del("Host")
	h.Del("Content-Length")
	hasBody := req.Body != nil && req.Body != http.NoBody
	switch {
	case hasBody && req.ContentLength > 0:
		h.Set("Content-Length", strconv.FormatInt(req.ContentLength, 10))
	case !hasBody && (head.Method == http.MethodPost || head.Method == http.MethodPut || head.Method == http.MethodPatch):
		h.Set("Content-Length", "0")
	}
	if agent, set := h["User-Agent"]; !set {
		h.Set("User-Agent", userAgent)
	} else if len(agent) == 0 || agent[0] == "" {
		h.Del("User-Agent") // set empty means: send none, as in net/http
	}
	if user := req.URL.User; user != nil && h.Get("Authorization") == "" {
		password, _ := user.Password()
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	h.Del("Trailer")
	for name := range req.Trailer {
		h.Add("Trailer", http.CanonicalHeaderKey(name))
	}
}

// declaredLength is the Content-Length of a header that h3frame has checked, -1 if
// there is none.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
