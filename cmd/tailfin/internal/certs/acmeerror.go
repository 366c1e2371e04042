package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/mholt/acmez/v3/acme"
)

// An ObtainError is a certificate that the CA did not give.
type ObtainError struct {
	Domain string
	CA     string // URL of its directory
	Err    error
	Remedy string
}

func (e *ObtainError) Error() string {
	return fmt.Sprintf("no certificate for %s from %s: %v\n  %s", e.Domain, e.CA, e.Err, e.Remedy)
}

func (e *ObtainError) Unwrap() error { return e.Err }

// obtainError says what to do about err, for the first certificate of a domain.
func (s *acmeSetup) obtainError(domain string, err error) error {
	// The type that crypto/tls wraps holds whole certificates; its text is enough.
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &authority) && s.CARoot != "":
		return &OptionError{"acme-ca-root", s.CARoot, fmt.Errorf("the CA at %s is not signed by it: %w", s.CA, authority), "give the root of the CA's own web certificate"}
	case errors.As(err, &authority):
		return &OptionError{"acme-ca", s.CA, authority, "give the root of the CA's own web certificate with --acme-ca-root"}
	case errors.As(err, &hostname):
		return &OptionError{"acme-ca", s.CA, hostname, "give the URL with the name that the CA's own web certificate is for"}
	}
	return &ObtainError{Domain: domain, CA: s.CA, Err: err, Remedy: s.remedy(domain, err)}
}

func (s *acmeSetup) remedy(domain string, err error) string {
	var problem acme.Problem
	if errors.As(err, &problem) {
		switch problem.Type {
		case acme.ProblemTypeConnection, acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse, acme.ProblemTypeTLS:
			return fmt.Sprintf("let TCP port %d of %s reach %s on this machine; UDP, which HTTP/3 is served by, does not do for %s", s.outsidePort(), domain, s.Listen, s.Challenge)
		case acme.ProblemTypeDNS:
			return fmt.Sprintf("give %s an A or AAAA record that leads to this machine", domain)
		case acme.ProblemTypeCAA:
			return fmt.Sprintf("allow this CA in the CAA records of %s", domain)
		case acme.ProblemTypeRateLimited:
			return "wait as long as the CA says; try settings out with --acme-ca letsencrypt-staging"
		case acme.ProblemTypeExternalAccountRequired:
			return "give --acme-eab-key-id and --acme-eab-hmac, which the CA shows for your account"
		case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
			return "the CA gives no certificates for this name; name another with --acme-domain, or another CA with --acme-ca"
		case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
			return "give another --acme-email, or none"
		}
		return "what the CA says above is the cause"
	}
	var netErr net.Error
	switch {
	case errors.Is(err, errStored):
		return fmt.Sprintf("move the folder of %s in %s away: a certificate is obtained anew", domain, s.Storage)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("it took longer than %v; is the CA slow, or can it not reach %s? --acme-timeout waits longer", s.Timeout, domain)
	case errors.As(err, &netErr):
		return "check --acme-ca, and that this machine reaches it"
	case strings.Contains(err.Error(), "failed storage check"):
		return fmt.Sprintf("let --acme-storage be a folder that you may write, not %s", s.Storage)
	}
	return "run with --log-level debug to see each step"
}
