package h3frame

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// pseudoFields are the pseudo-header fields of a section: few, as none is there twice.
type pseudoFields []Field

func (p pseudoFields) has(name string) bool {
	return slices.ContainsFunc(p, func(f Field) bool { return f.Name == name })
}

// splitPseudo gives each of the pseudo-header fields, which come first, to use,
// which says whether it knows it, and returns them apart from the other fields.
func splitPseudo(fields []Field, use func(name, value string) bool) (pseudoFields, []Field, error) {
	for i, f := range fields {
		switch {
		case !strings.HasPrefix(f.Name, ":"):
			return fields[:i], fields[i:], nil
		case !validValue(f.Value):
			return nil, nil, malformed("value of %q", f.Name)
		case pseudoFields(fields[:i]).has(f.Name):
			return nil, nil, malformed("%s twice", f.Name)
		case !use(f.Name, f.Value):
			return nil, nil, malformed("unknown pseudo-header field %q", f.Name)
		}
	}
	return fields, nil, nil
}

// addFields adds the regular fields of a section to header, names in the form of
// net/http, and refuses what RFC 9114 §4.2 and §10.3 call malformed.
func addFields(header http.Header, fields []Field) error {
	// One backing array for all the values, as most fields have only one.
	values := make([]string, len(fields))
	for i, f := range fields {
		switch {
		case strings.HasPrefix(f.Name, ":"):
			return malformed("pseudo-header field %q out of place", f.Name) // RFC 9114 §4.3
		case !validName(f.Name):
			return malformed("field name %q", f.Name)
		case !validValue(f.Value):
			return malformed("value of %q", f.Name)
		case connectionSpecific(f.Name, f.Value):
			return malformed("connection-specific field %q", f.Name)
		}
		name := http.CanonicalHeaderKey(f.Name)
		if had, ok := header[name]; ok {
			header[name] = append(had, f.Value)
			continue
		}
		values[i] = f.Value
		header[name] = values[i : i+1 : i+1]
	}
	return nil
}

// addHeaderFields is addFields for a header section, where Content-Length counts.
func addHeaderFields(header http.Header, fields []Field) error {
	if err := addFields(header, fields); err != nil {
		return err
	}
	return mergeContentLength(header)
}

// mergeContentLength leaves one value of Content-Length, or refuses it: a list of
// equal values stands for one of them (RFC 9110 §8.6).
func mergeContentLength(header http.Header) error {
	const name = "Content-Length"
	all, ok := header[name]
	if !ok || len(all) == 1 && plainLength(all[0]) {
		return nil
	}
	var length uint64
	first := true
	for _, line := range all {
		for v := range strings.SplitSeq(line, ",") {
			n, ok := parseContentLength(strings.Trim(v, " \t"))
			if !ok || !first && n != length {
				return malformed("Content-Length %q", strings.Join(all, ", "))
			}
			length, first = n, false
		}
	}
	header[name] = []string{strconv.FormatUint(length, 10)}
	return nil
}

// plainLength tells a Content-Length that is one number without a zero before it, and
// far from too large.
func plainLength(v string) bool {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	return len(v) == 1 || 1 < len(v) && len(v) <= 18 && v[0] != '0'
}

// parseContentLength reads digits only, as ParseUint does in base 10, and 63 bits
// so that the length is an int64 too.
func parseContentLength(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}

// connectionSpecific tells the fields that speak of an HTTP/1 connection and make
// a message of HTTP/3 malformed (RFC 9114 §4.2).
func connectionSpecific(name, value string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	case "te":
		return !strings.EqualFold(value, "trailers")
	}
	return false
}

// validName tells a token (RFC 9110 §5.6.2) without upper case (RFC 9114 §4.2).
func validName(name string) bool {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return false
		}
	}
	return validToken(name)
}

func validToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

// validValue tells a field value (RFC 9110 §5.5): no control characters, no
// whitespace at its ends (RFC 9114 §10.3).
func validValue(v string) bool {
	return trimValue(v) == v && httpguts.ValidHeaderFieldValue(v)
}

func trimValue(v string) string { return strings.Trim(v, " \t") }

// validScheme tells a scheme (RFC 3986 §3.1) in lower case.
func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// validTarget tells a :path that cannot be taken apart into something else where
// it is written into a request line (RFC 9114 §10.3): no spaces, no controls.
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
