package h3frame

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The pseudo-header fields of RFC 9114 §4.3 and, :protocol, of RFC 9220.
const (
	pseudoMethod    = ":method"
	pseudoScheme    = ":scheme"
	pseudoAuthority = ":authority"
	pseudoPath      = ":path"
	pseudoProtocol  = ":protocol"
	pseudoStatus    = ":status"
)

// The status codes that begin a class (RFC 9110 §15), their digits, and the code
// that HTTP/3 does not have (RFC 9114 §4.5).
const (
	minStatus          = 100
	statusFinal        = 200
	statusRedirect     = 300
	statusDigits       = 3
	switchingProtocols = 101
)

// A RequestHead is the header section of a request (RFC 9114 §4.3.1).
type RequestHead struct {
	Method string
	Scheme string // lower case; empty for a CONNECT without Protocol
	// Authority is :authority or, without it, Host. A parsed Header has no Host.
	Authority string
	Path      string // with the query; empty for a CONNECT without Protocol
	Protocol  string // of an extended CONNECT (RFC 9220), else empty
	Header    http.Header
}

// A ResponseHead is the header section of a response, interim or final
// (RFC 9114 §4.3.2).
type ResponseHead struct {
	Status int
	Header http.Header
}

// ParseRequestFields makes a request head of a field section, and refuses a
// malformed one (RFC 9114 §4.1.2) with a *FrameError of H3_MESSAGE_ERROR. That
// extended CONNECT was announced is for the caller to check.
func ParseRequestFields(fields []Field) (RequestHead, error) {
	var head RequestHead
	pseudo, rest, err := splitPseudo(fields, func(name, value string) bool {
		switch name {
		case pseudoMethod:
			head.Method = value
		case pseudoScheme:
			// Schemes are case-insensitive and lower case is the normal form (RFC 3986 §3.1).
			head.Scheme = strings.ToLower(value)
		case pseudoAuthority:
			head.Authority = value
		case pseudoPath:
			head.Path = value
		case pseudoProtocol:
			head.Protocol = value
		default:
			return false
		}
		return true
	})
	if err != nil {
		return RequestHead{}, err
	}
	// For those alone: beyond eight a map is made of much more.
	head.Header = make(http.Header, len(rest))
	if err := addHeaderFields(head.Header, rest); err != nil {
		return RequestHead{}, err
	}
	if err := head.takeHost(pseudo); err != nil {
		return RequestHead{}, err
	}
	if err := head.check(pseudo); err != nil {
		return RequestHead{}, err
	}
	if crumbs := head.Header["Cookie"]; len(crumbs) > 1 {
		head.Header["Cookie"] = []string{strings.Join(crumbs, "; ")} // RFC 9114 §4.2.1
	}
	return head, nil
}

// takeHost makes Host and :authority one: where both are there they must agree
// (RFC 9114 §4.3.1), lest two servers on the way see two different hosts.
func (h *RequestHead) takeHost(pseudo pseudoFields) error {
	hosts := h.Header["Host"]
	delete(h.Header, "Host")
	switch {
	case len(hosts) > 1:
		return malformed("%d Host fields", len(hosts))
	case len(hosts) == 0:
	case !pseudo.has(pseudoAuthority):
		if h.Method != http.MethodConnect { // which has to have :authority (§4.4)
			h.Authority = hosts[0]
		}
	case hosts[0] != h.Authority:
		return malformed("%s %q and Host %q differ", pseudoAuthority, h.Authority, hosts[0])
	}
	if !httpguts.ValidHostHeader(h.Authority) {
		return malformed("%s %q", pseudoAuthority, h.Authority)
	}
	return nil
}

// check holds the head against RFC 9114 §4.3.1 and §4.4.
func (h *RequestHead) check(pseudo pseudoFields) error {
	connect, extended := h.Method == http.MethodConnect, pseudo.has(pseudoProtocol)
	switch {
	case !validToken(h.Method):
		return malformed("%s %q", pseudoMethod, h.Method)
	case extended && (!connect || !validToken(h.Protocol)):
		return malformed("%s %q with %s %s", pseudoProtocol, h.Protocol, pseudoMethod, h.Method)
	case connect && !extended:
		if pseudo.has(pseudoScheme) || pseudo.has(pseudoPath) || h.Authority == "" {
			return malformed("CONNECT needs %s and neither %s nor %s", pseudoAuthority, pseudoScheme, pseudoPath)
		}
		return nil
	case connect && h.Authority == "":
		return malformed("extended CONNECT without %s", pseudoAuthority) // RFC 8441 §4
	case !validScheme(h.Scheme):
		return malformed("%s %q", pseudoScheme, h.Scheme)
	case !pseudo.has(pseudoPath) || !validTarget(h.Path):
		return malformed("%s %q", pseudoPath, h.Path)
	case h.Scheme != "http" && h.Scheme != "https":
		return nil
	case h.Authority == "":
		return malformed("neither %s nor Host", pseudoAuthority)
	case strings.Contains(h.Authority, "@"):
		return malformed("%s with userinfo", pseudoAuthority)
	case !strings.HasPrefix(h.Path, "/") && (h.Path != "*" || h.Method != http.MethodOptions):
		return malformed("%s %q", pseudoPath, h.Path)
	}
	return nil
}

// ParseResponseFields makes a response head of a field section, and refuses a
// malformed one with a *FrameError of H3_MESSAGE_ERROR.
func ParseResponseFields(fields []Field) (ResponseHead, error) {
	head := ResponseHead{Header: make(http.Header, len(fields))}
	var status string
	_, rest, err := splitPseudo(fields, func(name, value string) bool {
		status = value
		return name == pseudoStatus
	})
	if err != nil {
		return ResponseHead{}, err
	}
	head.Status, err = strconv.Atoi(status)
	// A sign, which Atoi takes, leaves too few digits for the number to be valid.
	if err != nil || len(status) != statusDigits || head.Status < minStatus || head.Status == switchingProtocols {
		return ResponseHead{}, malformed("%s %q", pseudoStatus, status)
	}
	if err := addHeaderFields(head.Header, rest); err != nil {
		return ResponseHead{}, err
	}
	return head, nil
}

// ParseTrailerFields makes a header of a trailer section, and refuses a malformed
// one with a *FrameError of H3_MESSAGE_ERROR: pseudo-header fields are among what
// trailers must not have (RFC 9114 §4.3). Regular fields that do not belong there,
// such as Content-Length, are left out (RFC 9110 §6.5.1).
func ParseTrailerFields(fields []Field) (http.Header, error) {
	header := make(http.Header, len(fields))
	if err := addFields(header, fields); err != nil {
		return nil, err
	}
	for name := range header {
		if !httpguts.ValidTrailerHeader(name) {
			delete(header, name)
		}
	}
	return header, nil
}

// malformed is a stream error (RFC 9114 §4.1.2).
func malformed(format string, args ...any) *FrameError {
	return &FrameError{Code: ErrCodeMessage, Type: FrameHeaders, Reason: "malformed message: " + fmt.Sprintf(format, args...)}
}
