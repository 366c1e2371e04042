package certs

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
)

// What ACME.Challenge may be.
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
)

// What ACME.CA may be beside the URL of a directory.
const (
	LetsEncrypt        = "letsencrypt"
	LetsEncryptStaging = "letsencrypt-staging" // certificates that nobody trusts, generous limits
)

// ACME says how to obtain certificates from a CA (RFC 8555).
//
// HTTP/3 is served by UDP, and a CA proves the control of a domain by TCP: port
// 80 (http-01) or 443 (tls-alpn-01) of every domain must reach Listen, by itself
// or forwarded. The port is only open while an order is under way.
type ACME struct {
	Domains    []string // --acme-domain, a certificate each; the first is the default
	Email      string   // --acme-email, for the CA to write to; may be empty
	CA         string   // --acme-ca; empty is LetsEncrypt
	CARoot     string   // --acme-ca-root, PEM file to trust the CA by instead of the system's roots
	AgreeTerms bool     // --acme-agree-terms
	Storage    string   // --acme-storage; empty is in $STATE_DIRECTORY or the user's state folder
	Challenge  string   // --acme-challenge; empty is HTTP01
	Listen     string   // --acme-listen; empty is port 80 or 443 of every address
	EABKeyID   string   // --acme-eab-key-id, account at a CA that binds it to ACME (RFC 8555 §7.3.4)
	EABHMAC    string   // --acme-eab-hmac, its key in base64url
	Profile    string   // --acme-profile, for example shortlived; empty lets the CA choose

	// Timeout is for the certificates that Open has to wait for; zero is two
	// minutes.
	Timeout time.Duration // --acme-timeout
	// RenewCheck is how often certificates are looked at for renewal; zero is ten
	// minutes. One that ends within five times of it is renewed.
	RenewCheck time.Duration
}

// alone finds ACME options without a domain.
func (a *ACME) alone() error {
	if len(a.Domains) > 0 {
		return nil
	}
	for _, o := range []struct{ option, value string }{
		{"acme-email", a.Email}, {"acme-ca", a.CA}, {"acme-ca-root", a.CARoot}, {"acme-storage", a.Storage},
		{"acme-challenge", a.Challenge}, {"acme-listen", a.Listen}, {"acme-eab-key-id", a.EABKeyID}, {"acme-eab-hmac", a.EABHMAC}, {"acme-profile", a.Profile},
	} {
		if o.value != "" {
			return &OptionError{o.option, o.value, errors.New("--acme-domain is missing"), "name the domain to obtain a certificate for, or leave this out"}
		}
	}
	return nil
}

// An acmeSetup is ACME, checked and with its defaults.
type acmeSetup struct {
	ACME
	host  string // of Listen
	port  int
	roots *x509.CertPool // nil: the system's
}

func (a ACME) setup() (*acmeSetup, error) {
	s := &acmeSetup{ACME: a}
	for _, check := range []func() error{s.checkDomains, s.checkCA, s.checkAccount, s.checkStorage, s.checkListen} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if s.Timeout <= 0 {
		s.Timeout = 2 * time.Minute
	}
	return s, nil
}

// prepare finds out what only the user can that the server runs as.
func (s *acmeSetup) prepare(log *slog.Logger) error {
	return cmp.Or(s.makeStorage(), s.tryListen(log))
}

func (s *acmeSetup) checkDomains() error {
	s.Domains = append([]string(nil), s.Domains...)
	for i, d := range s.Domains {
		if strings.Contains(d, "*") {
			return &OptionError{"acme-domain", d, errors.New("a wildcard needs the dns-01 challenge, which Tailfin does not do"), "name each host, or obtain it with another ACME client and give --cert and --key"}
		}
		name := normalName(d)
		if !certmagic.SubjectQualifiesForCert(name) || strings.ContainsAny(name, "/:?") && net.ParseIP(name) == nil {
			return &OptionError{"acme-domain", d, errors.New("not the name of a host"), "give for example files.example.com"}
		}
		s.Domains[i] = name
	}
	return nil
}

func (s *acmeSetup) checkCA() error {
	switch s.CA {
	case "", LetsEncrypt:
		s.CA = certmagic.LetsEncryptProductionCA
	case LetsEncryptStaging:
		s.CA = certmagic.LetsEncryptStagingCA
	}
	u, err := url.Parse(s.CA)
	if err == nil && (u.Scheme != "https" || u.Host == "") {
		err = errors.New("not an https URL")
	}
	if err != nil {
		return &OptionError{"acme-ca", s.CA, err, "give letsencrypt, letsencrypt-staging, or the URL of the CA's directory, for example https://ca.example.com/acme/acme/directory"}
	}
	if s.CARoot == "" {
		return nil
	}
	b, err := readPEM("acme-ca-root", s.CARoot)
	if err != nil {
		return err
	}
	s.roots, err = parsePool("acme-ca-root", s.CARoot, b)
	return err
}

func (s *acmeSetup) checkAccount() error {
	const eab = "give the key id and the key that the CA shows for your account"
	if !s.AgreeTerms {
		return &OptionError{"acme-agree-terms", "", errors.New("not set"), "read the subscriber agreement of the CA (for Let's Encrypt: https://letsencrypt.org/repository/) and set it if you agree"}
	}
	if s.Email != "" && !strings.Contains(s.Email, "@") {
		return &OptionError{"acme-email", s.Email, errors.New("not a mail address"), "give for example admin@example.com, or leave it out"}
	}
	switch {
	case s.EABKeyID == "" && s.EABHMAC == "":
		return nil
	case s.EABHMAC == "":
		return &OptionError{"acme-eab-key-id", s.EABKeyID, errors.New("--acme-eab-hmac is missing"), eab}
	case s.EABKeyID == "":
		return &OptionError{"acme-eab-hmac", "", errors.New("--acme-eab-key-id is missing"), eab}
	}
	s.EABHMAC = strings.TrimRight(s.EABHMAC, "=")
	if _, err := base64.RawURLEncoding.DecodeString(s.EABHMAC); err != nil {
		// The key is secret: it is not repeated.
		return &OptionError{"acme-eab-hmac", "", errors.New("not base64url"), eab}
	}
	return nil
}

// checkStorage finds the folder.
func (s *acmeSetup) checkStorage() error {
	if s.Storage != "" {
		return nil
	}
	switch state, home := stateFolder(), os.Getenv("HOME"); {
	case state != "":
		s.Storage = filepath.Join(state, "acme")
	case home != "":
		s.Storage = filepath.Join(home, ".local", "state", "tailfin", "acme")
	default:
		return &OptionError{"acme-storage", "", errors.New("neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set"), "name a folder that outlives the process: account and certificates are kept there"}
	}
	return nil
}

// makeStorage makes the folder. It may be read-only: what is stored there can
// still be served.
func (s *acmeSetup) makeStorage() error {
	err := os.MkdirAll(s.Storage, 0o700)
	if err != nil && !errors.Is(err, syscall.EROFS) {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = fmt.Errorf("%s: %w", pathErr.Path, pathErr.Err)
		}
		return &OptionError{"acme-storage", s.Storage, err, "name a folder that you may write"}
	}
	return nil
}

// stateFolder is where this program may keep state, if the environment says so.
func stateFolder() string {
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" { // systemd.exec(5): several are split by colons
		first, _, _ := strings.Cut(dirs, ":")
		return first
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "tailfin")
	}
	return ""
}

func (s *acmeSetup) checkListen() error {
	switch s.Challenge {
	case "":
		s.Challenge = HTTP01
	case HTTP01, TLSALPN01:
	default:
		return &OptionError{"acme-challenge", s.Challenge, errors.New("unknown"), "give http-01 or tls-alpn-01"}
	}
	if s.Listen == "" {
		s.Listen = net.JoinHostPort("", strconv.Itoa(s.outsidePort()))
	}
	host, portText, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return &OptionError{"acme-listen", s.Listen, err, s.listenRemedy()}
	}
	if s.port, err = net.LookupPort("tcp", portText); err != nil || s.port == 0 {
		return &OptionError{"acme-listen", s.Listen, errors.New("no port"), s.listenRemedy()}
	}
	s.host = host
	return nil
}

// outsidePort is where the CA comes to.
func (s *acmeSetup) outsidePort() int {
	if s.Challenge == TLSALPN01 {
		return certmagic.TLSALPNChallengePort
	}
	return certmagic.HTTPChallengePort
}

func (s *acmeSetup) listenRemedy() string {
	return fmt.Sprintf("give HOST:PORT for TCP, for example :%d, which port %d of the domains leads to", s.outsidePort(), s.outsidePort())
}

// tryListen tries the address: an order in two months is late for finding out
// that the port may not be had.
func (s *acmeSetup) tryListen(log *slog.Logger) error {
	ln, err := net.Listen("tcp", s.Listen)
	switch {
	case err == nil:
		return ln.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		// Another instance that hands over to this one answers for both, since they
		// share the storage.
		log.Warn("the address for ACME challenges is in use; orders fail unless it is an instance with the same storage", "option", "acme-listen", "address", s.Listen)
		return nil
	case errors.Is(err, syscall.EACCES):
		return &OptionError{"acme-listen", s.Listen, err, fmt.Sprintf("run with CAP_NET_BIND_SERVICE (in a systemd unit: AmbientCapabilities=), or forward port %d to a port above 1023 and name that", s.outsidePort())}
	}
	return &OptionError{"acme-listen", s.Listen, err, s.listenRemedy()}
}
