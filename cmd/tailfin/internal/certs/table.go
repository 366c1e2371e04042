package certs

import (
	"crypto/tls"
	"strings"
)

// A table finds certificates by the name that a client asks for (SNI, RFC 6066
// §3). It is not changed once it is made.
type table struct {
	byName map[string][]*tls.Certificate // lower case; "*.example.com" for a wildcard
	first  *tls.Certificate
}

func newTable(certs []*tls.Certificate) *table {
	t := &table{byName: map[string][]*tls.Certificate{}, first: certs[0]}
	for _, cert := range certs {
		for _, name := range cert.Leaf.DNSNames {
			name = normalName(name)
			t.byName[name] = append(t.byName[name], cert)
		}
	}
	return t
}

func normalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// choose has the certificate of the exact name, else of a wildcard for its
// first label, else the first.
func (t *table) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := normalName(hello.ServerName)
	if certs := t.byName[name]; len(certs) > 0 {
		return supported(hello, certs)
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		if certs := t.byName["*"+name[dot:]]; len(certs) > 0 {
			return supported(hello, certs)
		}
	}
	return t.first
}

// supported is the first that the client can use: there may be one with an RSA
// and one with an ECDSA key for a name.
func supported(hello *tls.ClientHelloInfo, certs []*tls.Certificate) *tls.Certificate {
	if len(certs) > 1 {
		for _, cert := range certs {
			if hello.SupportsCertificate(cert) == nil {
				return cert
			}
		}
	}
	return certs[0]
}
