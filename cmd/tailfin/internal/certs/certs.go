// Package certs holds the certificates of a server: from files that it watches,
// from an ACME CA, or made in memory for development.
//
// A Source replaces certificates behind one tls.Config that lives as long as the
// server, so that handshakes under way keep what they began with and session
// tickets stay valid over a reload. There is no OCSP stapling: Let's Encrypt
// ended its responders in 2025, and short-lived certificates took their place.
//
// Files are looked at every few seconds by content. Notices of the file system
// would have to be had for every folder and symbolic link on the way, would
// still miss network file systems, and save 0.2 ms every five seconds. A
// changed pair is taken when two looks in turn find the same, so that a file
// that is being written is not taken half; Reload takes it at once.
package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultPoll is how often files are looked at if Options.Poll is zero.
const DefaultPoll = 5 * time.Second

// Options say where the certificates of a server come from. The zero value
// makes a development certificate. Each field is the option of the command line
// that an OptionError names.
type Options struct {
	// Certs and Keys are PEM files, a chain and its key at the same index. The
	// first pair is for clients that name no host or an unknown one.
	Certs, Keys []string // --cert, --key

	// ACME obtains certificates from a CA if it has Domains.
	ACME ACME

	// Hosts are further names of the development certificate, beside localhost
	// and the loopback addresses.
	Hosts []string
	// CACertOut is a file to write the development certificate to, if not empty.
	CACertOut string // --cacert-out

	// ClientCA is a PEM file with the CAs that client certificates must come
	// from. Empty asks clients for none. Handlers find a client's certificate,
	// verified, first in PeerCertificates of Request.TLS; VerifiedChains is empty.
	ClientCA string // --client-ca
	// ClientAuth is RequireClient or RequestClient; empty is RequireClient.
	ClientAuth string // --client-auth

	Poll       time.Duration         // between looks at files; zero is DefaultPoll
	Log        *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers no metrics
}

// Info describes a certificate that is served.
type Info struct {
	Names     []string // hosts and addresses that it is for
	Issuer    string
	Serial    string // hexadecimal
	NotBefore time.Time
	NotAfter  time.Time
	SHA256    string // of the certificate, hexadecimal
	Source    string // the file, the URL of the CA, or "development"
}

// A Source has the certificates of a server. Its methods may be called from
// several goroutines.
type Source struct {
	origin  origin
	clients *clientCAs // nil: clients need no certificate

	stop   func()
	done   sync.WaitGroup
	closed sync.Once
}

// An origin is where certificates come from.
type origin interface {
	certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	reload(ctx context.Context) error
	info() []Info
	close()
}

// A watched is a set of files that may change. A look that was not asked for
// waits until a change has settled, and returns no error.
type watched interface {
	look(asked bool) error
}

// Open has the certificates that opts ask for, ready to serve. From an ACME CA
// it obtains what it has not stored, which may take minutes; ctx ends that. An
// *OptionError says which option is unusable, an *ObtainError what the CA
// refused.
func Open(ctx context.Context, opts Options) (*Source, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Poll <= 0 {
		opts.Poll = DefaultPoll
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	s, metrics := &Source{}, newMetrics()
	var looks []watched
	var err error
	if opts.ClientCA != "" {
		if s.clients, err = openClientCAs(opts, metrics); err != nil {
			return nil, err
		}
		looks = append(looks, s.clients)
	}
	switch {
	case len(opts.Certs) > 0:
		var f *files
		if f, err = openFiles(opts, metrics); err == nil {
			s.origin, looks = f, append(looks, f)
		}
	case len(opts.ACME.Domains) > 0:
		s.origin, err = openACME(ctx, opts, metrics)
	default:
		s.origin, err = openDevelopment(opts)
	}
	if err != nil {
		return nil, err
	}
	if err := metrics.register(opts.Registerer); err != nil {
		s.origin.close()
		return nil, err
	}
	s.watch(opts.Poll, looks, metrics)
	return s, nil
}

// Check finds what is wrong with opts without obtaining, making or listening to
// anything. What depends on the user that the server runs as may still fail.
func Check(opts Options) error {
	if err := opts.check(); err != nil {
		return err
	}
	opts.Log = slog.New(slog.DiscardHandler)
	if opts.ClientCA != "" {
		if _, err := openClientCAs(opts, newMetrics()); err != nil {
			return err
		}
	}
	if len(opts.ACME.Domains) > 0 {
		_, err := opts.ACME.setup()
		return err
	}
	if len(opts.Certs) > 0 {
		_, err := openFiles(opts, newMetrics())
		return err
	}
	return nil
}

// check finds options that do not go together.
func (o *Options) check() error {
	const either = "give both, or neither for a development certificate"
	switch {
	case len(o.Certs) > len(o.Keys) && len(o.Keys) == 0:
		return &OptionError{"cert", o.Certs[0], errors.New("--key is missing"), either}
	case len(o.Keys) > len(o.Certs) && len(o.Certs) == 0:
		return &OptionError{"key", o.Keys[0], errors.New("--cert is missing"), either}
	case len(o.Certs) > len(o.Keys):
		return &OptionError{"cert", o.Certs[len(o.Keys)], errors.New("there are more --cert than --key"), "give a --key for each --cert, in the same order"}
	case len(o.Keys) > len(o.Certs):
		return &OptionError{"key", o.Keys[len(o.Certs)], errors.New("there are more --key than --cert"), "give a --cert for each --key, in the same order"}
	case len(o.Certs) > 0 && len(o.ACME.Domains) > 0:
		return &OptionError{"acme-domain", o.ACME.Domains[0], errors.New("certificates are given with --cert"), "leave one of the two out"}
	case o.CACertOut != "" && len(o.Certs) > 0:
		return &OptionError{"cacert-out", o.CACertOut, errors.New("there is no development certificate to write with --cert"), "leave one of the two out"}
	case o.CACertOut != "" && len(o.ACME.Domains) > 0:
		return &OptionError{"cacert-out", o.CACertOut, errors.New("there is no development certificate to write with --acme-domain"), "leave one of the two out"}
	case o.ClientCA == "" && o.ClientAuth != "":
		return &OptionError{"client-auth", o.ClientAuth, errors.New("--client-ca is missing"), "name a file with the CAs that client certificates come from"}
	}
	return o.ACME.alone()
}

// watch looks at files until Close.
func (s *Source) watch(every time.Duration, looks []watched, metrics *metrics) {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = func() {
		cancel()
		metrics.unregister()
	}
	if len(looks) == 0 {
		return
	}
	s.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				for _, w := range looks {
					_ = w.look(false) // it logs
				}
			}
		}
	})
}

// TLSConfig is the configuration of a server that lives as long as the Source.
// Certificates and client CAs change behind it. A new one for each reload would
// void the session tickets.
func (s *Source) TLSConfig() *tls.Config {
	conf := &tls.Config{GetCertificate: s.GetCertificate, MinVersion: tls.VersionTLS13}
	if s.clients != nil {
		s.clients.configure(conf)
	}
	return conf
}

// GetCertificate chooses a certificate for a client, for tls.Config.
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.origin.certificate(hello)
}

// Reload takes new certificates and client CAs at once, as on SIGHUP. What is
// unusable keeps what there was, and is in the error. With ACME it renews what
// is due.
func (s *Source) Reload(ctx context.Context) error {
	var clients error
	if s.clients != nil {
		clients = s.clients.look(true)
	}
	return errors.Join(s.origin.reload(ctx), clients)
}

// Info describes the certificates that are served, the default first.
func (s *Source) Info() []Info { return s.origin.info() }

// Close ends what runs in the background. A certificate can still be had, for
// connections that come while the server stops. Closing again does nothing.
func (s *Source) Close() error {
	s.closed.Do(func() {
		s.stop()
		s.done.Wait()
		s.origin.close()
	})
	return nil
}

// describe is the Info of a certificate from source.
func describe(cert *x509.Certificate, source string) Info {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		names = []string{cert.Subject.CommonName}
	}
	sum := sha256.Sum256(cert.Raw)
	issuer := cert.Issuer.CommonName
	if issuer == "" {
		issuer = cert.Issuer.String()
	}
	return Info{
		Names: names, Issuer: issuer, Serial: cert.SerialNumber.Text(16),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		SHA256: hex.EncodeToString(sum[:]), Source: source,
	}
}
