package tailfin

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Alt-Svc (RFC 7838 §3):
//
//	Alt-Svc: h3=":443"; ma=86400; persist=1, h3-29=":443"
//	Alt-Svc: clear

// defaultMaxAge is how long an alternative without ma is good for (RFC 7838 §3.1).
const defaultMaxAge = 24 * time.Hour

// maxAltSvcBytes bounds what is parsed of the fields of one response: a peer
// sends some hundred bytes.
const maxAltSvcBytes = 8 << 10

// maxAltSvcAge bounds ma, which a peer may set to centuries.
const maxAltSvcAge = 30 * 24 * time.Hour

// An altService is one alternative of an Alt-Svc field.
type altService struct {
	protocol string // ALPN, decoded from its percent-encoding
	host     string // empty: that of the origin
	port     string
	maxAge   time.Duration
}

// errAltSvc is a field that does not follow the grammar.
var errAltSvc = errors.New("malformed Alt-Svc")

// parseAltSvc parses the values of an Alt-Svc field. Parameters other than ma are
// read and ignored. A value that is malformed makes all of them invalid, as what
// its sender meant cannot be known.
func parseAltSvc(values []string) (list []altService, cleared bool, err error) {
	p := altSvcParser{rest: strings.Join(values, ", ")}
	if len(p.rest) > maxAltSvcBytes {
		return nil, false, fmt.Errorf("%w: %d bytes", errAltSvc, len(p.rest))
	}
	if strings.Trim(p.rest, " \t") == "clear" { // case-sensitive, and alone (RFC 7838 §3)
		return nil, true, nil
	}
	for {
		for p.skipSpace(); p.take(','); p.skipSpace() { // empty elements of a list
		}
		if p.rest == "" {
			return list, false, nil
		}
		svc, err := p.service()
		if err != nil {
			return nil, false, err
		}
		list = append(list, svc)
		p.skipSpace()
		if p.rest != "" && !p.take(',') {
			return nil, false, p.fail("no comma between alternatives")
		}
	}
}

type altSvcParser struct{ rest string }

func (p *altSvcParser) fail(what string) error {
	return fmt.Errorf("%w: %s before %.20q", errAltSvc, what, p.rest)
}

func (p *altSvcParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *altSvcParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// service parses one alternative and its parameters.
func (p *altSvcParser) service() (altService, error) {
	svc := altService{maxAge: defaultMaxAge}
	protocol := p.token()
	if protocol == "" || !p.take('=') {
		return svc, p.fail("no protocol-id")
	}
	var ok bool
	if svc.protocol, ok = percentDecode(protocol); !ok {
		return svc, p.fail("bad percent-encoding")
	}
	authority, ok := p.quoted()
	if !ok {
		return svc, p.fail("no quoted alt-authority")
	}
	host, port, err := net.SplitHostPort(authority)
	if err != nil || !validPort(port) {
		return svc, p.fail("bad alt-authority")
	}
	svc.host, svc.port = host, port
	for {
		p.skipSpace()
		if !p.take(';') {
			return svc, nil
		}
		p.skipSpace()
		name := p.token()
		if name == "" || !p.take('=') {
			return svc, p.fail("no parameter")
		}
		value, ok := p.quoted()
		if !ok {
			value = p.token()
		}
		if !ok && value == "" {
			return svc, p.fail("no value of a parameter")
		}
		if strings.EqualFold(name, "ma") {
			seconds, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return svc, p.fail("bad ma")
			}
			svc.maxAge = min(time.Duration(min(seconds, uint64(maxAltSvcAge/time.Second)))*time.Second, maxAltSvcAge)
		}
	}
}

// token takes a token (RFC 9110 §5.6.2), empty if there is none.
func (p *altSvcParser) token() string {
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

func isTokenByte(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// quoted takes a quoted-string (RFC 9110 §5.6.4). Without one it takes nothing.
func (p *altSvcParser) quoted() (string, bool) {
	if p.rest == "" || p.rest[0] != '"' {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\':
			i++
			if i == len(p.rest) {
				return "", false
			}
			b.WriteByte(p.rest[i])
		case c < ' ' && c != '\t', c == 0x7f:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// percentDecode undoes the encoding of an ALPN name as a token (RFC 7838 §3).
func percentDecode(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(v))
		i += 2
	}
	return b.String(), true
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// offersH3 returns for how long the alternatives say that the origin itself
// speaks HTTP/3. Those on another host or port are not for us: requests go to
// the authority of their URL only.
func offersH3(list []altService, authority string) (time.Duration, bool) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return 0, false
	}
	for _, svc := range list {
		if svc.protocol == NextProto && svc.port == port && (svc.host == "" || strings.EqualFold(svc.host, host)) {
			return svc.maxAge, true
		}
	}
	return 0, false
}
