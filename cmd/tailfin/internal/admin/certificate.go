package admin

import (
	"crypto/x509"
	"slices"
	"time"
)

// maxCertificates bounds what is shown and counted of certificates: ACME on
// demand can have any number.
const maxCertificates = 64

// A Certificate is one that clients are shown.
type Certificate struct {
	Names    []string  `json:"names"`
	Issuer   string    `json:"issuer"`
	Source   string    `json:"source"` // a file, "acme", or "development"
	NotAfter time.Time `json:"not_after"`
}

// CertificateOf describes a leaf, which came from source.
func CertificateOf(leaf *x509.Certificate, source string) Certificate {
	c := Certificate{Issuer: leaf.Issuer.CommonName, Source: source, NotAfter: leaf.NotAfter}
	c.Names = append(c.Names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	c.Names = slices.Compact(c.Names)
	if len(c.Names) == 0 {
		c.Names = []string{leaf.Subject.CommonName}
	}
	if c.Issuer == "" {
		c.Issuer = leaf.Issuer.String()
	}
	return c
}

// name is what a metric calls the certificate.
func (c Certificate) name() string {
	c.Names = slices.Compact(c.Names)
	if len(c.Names) == 0 {
		return ""
	}
	return clip(c.Names[0], maxText)
}

// certificates are those to show, at most maxCertificates.
func (a *Admin) certificates() []Certificate {
	if a.opts.Certificates == nil {
		return nil
	}
	list := a.opts.Certificates()
	return list[:min(len(list), maxCertificates)]
}
