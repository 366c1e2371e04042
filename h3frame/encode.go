package h3frame

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// RequestFields returns the field section of a request (RFC 9114 §4.3.1). Names
// become lower case, in sorted order. Left out is what would make the message
// malformed: connection-specific fields and those that Connection names, invalid
// names and values, and Host, for which Authority stands. A CONNECT without
// Protocol has no :scheme and :path (§4.4).
func RequestFields(head RequestHead) []Field {
	fields := make([]Field, 0, len(head.Header)+typicalPseudo)
	fields = append(fields, Field{pseudoMethod, head.Method})
	if head.Method != http.MethodConnect || head.Protocol != "" {
		fields = append(fields, Field{pseudoScheme, head.Scheme})
	}
	if head.Authority != "" {
		fields = append(fields, Field{pseudoAuthority, head.Authority})
	}
	if head.Method != http.MethodConnect || head.Protocol != "" {
		fields = append(fields, Field{pseudoPath, head.Path})
	}
	if head.Protocol != "" {
		fields = append(fields, Field{pseudoProtocol, head.Protocol})
	}
	return appendFields(fields, head.Header, "host")
}

// typicalPseudo is the most pseudo-header fields that a request has.
const typicalPseudo = 5

// ResponseFields returns the field section of a response (RFC 9114 §4.3.2), and
// leaves out what RequestFields does, except Host.
func ResponseFields(head ResponseHead) []Field {
	return AppendResponseFields(make([]Field, 0, len(head.Header)+1), head)
}

// AppendResponseFields appends what ResponseFields returns.
func AppendResponseFields(fields []Field, head ResponseHead) []Field {
	fields = append(fields, Field{pseudoStatus, statusText(head.Status)})
	return appendFields(fields, head.Header, "")
}

// statusText is strconv.Itoa without memory for what most answers have.
func statusText(status int) string {
	switch status {
	case http.StatusOK:
		return "200"
	case http.StatusCreated:
		return "201"
	case http.StatusNoContent:
		return "204"
	case http.StatusNotModified:
		return "304"
	}
	return strconv.Itoa(status)
}

// TrailerFields returns the field section of trailers, and leaves out what
// ResponseFields does.
func TrailerFields(trailer http.Header) []Field {
	return appendFields(make([]Field, 0, len(trailer)), trailer, "")
}

// appendFields appends the fields of header that may go on the wire, except one.
// They are sorted, so that equal headers give equal bytes.
func appendFields(fields []Field, header http.Header, except string) []Field {
	if len(header) == 0 {
		return fields
	}
	named := connectionOptions(header)
	var few [typicalFields]string // on the stack
	keys := few[:0]
	for key := range header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		name := lowerName(key)
		if name == except || !validName(name) || slices.Contains(named, name) {
			continue
		}
		for _, v := range header[key] {
			// net/http trims values in HTTP/1; a space at the end is malformed here.
			v = trimValue(v)
			if validValue(v) && !connectionSpecific(name, v) {
				fields = append(fields, Field{name, v})
			}
		}
	}
	return fields
}

// lowerNames has the names that responses have most, which need no memory then.
var lowerNames = map[string]string{
	"Accept-Ranges": "accept-ranges", "Alt-Svc": "alt-svc", "Cache-Control": "cache-control",
	"Content-Encoding": "content-encoding", "Content-Length": "content-length", "Content-Range": "content-range",
	"Content-Type": "content-type", "Date": "date", "Etag": "etag", "Last-Modified": "last-modified",
	"Location": "location", "Server": "server", "Vary": "vary", "X-Content-Type-Options": "x-content-type-options",
}

func lowerName(key string) string {
	if name, ok := lowerNames[key]; ok {
		return name
	}
	return strings.ToLower(key)
}

// connectionOptions returns the fields that Connection names, which go no further
// than it does (RFC 9110 §7.6.1).
func connectionOptions(header http.Header) []string {
	var names []string
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			names = append(names, strings.ToLower(trimValue(name)))
		}
	}
	return names
}
