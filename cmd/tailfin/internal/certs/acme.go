package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// missingWait is how long after the start a domain without a certificate is tried
// again, in the background, and ever more seldom then: CAs count what fails.
const missingWait = time.Minute

// closeWait is how long close waits for a renewal check, which may hang on the
// CA.
const closeWait = 5 * time.Second

// An acmeOrigin has a certificate for each domain from an ACME CA. certmagic
// stores and renews them.
type acmeOrigin struct {
	setup   *acmeSetup
	log     *slog.Logger
	metrics *metrics
	cache   *certmagic.Cache
	config  atomic.Pointer[certmagic.Config] // of renewals; set before anything asks for it
	once    *certmagic.Config                // of the attempts of start, whose errors are returned or logged by it
	domains map[string]bool
	closing atomic.Bool // what is cut off is no error

	ctx    context.Context // of all that runs in the background
	cancel context.CancelFunc
	jobs   sync.WaitGroup
}

// openACME obtains what is not stored. What is stored is served at once, and
// renewed later if the CA is not there now.
func openACME(ctx context.Context, opts Options, m *metrics) (origin, error) {
	setup, err := opts.ACME.setup()
	if err != nil {
		return nil, err
	}
	if err := setup.prepare(opts.Log); err != nil {
		return nil, err
	}
	a := &acmeOrigin{setup: setup, log: opts.Log, metrics: m, domains: map[string]bool{}}
	for _, d := range setup.Domains {
		a.domains[d] = true
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.manage()
	if err := a.start(ctx); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// manage sets certmagic up.
func (a *acmeOrigin) manage() {
	handler := a.log.With("part", "acme").Handler()
	logger := zap.New(&slogCore{handler, &a.closing})
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.config.Load(), nil },
		RenewCheckInterval: a.setup.RenewCheck,
		Logger:             logger,
	})
	a.config.Store(a.newConfig(logger))
	var quiet atomic.Bool
	quiet.Store(true)
	a.once = a.newConfig(zap.New(&slogCore{handler, &quiet}))
}

func (a *acmeOrigin) newConfig(logger *zap.Logger) *certmagic.Config {
	config := certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: a.setup.Storage},
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		OnEvent: a.event,
		Logger:  logger,
	})
	issuer := certmagic.ACMEIssuer{
		CA: a.setup.CA, Email: a.setup.Email, Agreed: true, Profile: a.setup.Profile, TrustedRoots: a.setup.roots,
		DisableHTTPChallenge: a.setup.Challenge != HTTP01, DisableTLSALPNChallenge: a.setup.Challenge != TLSALPN01,
		ListenHost: a.setup.host, AltHTTPPort: a.setup.port, AltTLSALPNPort: a.setup.port,
		Logger: logger,
	}
	if a.setup.EABKeyID != "" {
		issuer.ExternalAccount = &acme.EAB{KeyID: a.setup.EABKeyID, MACKey: a.setup.EABHMAC}
	}
	config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(config, issuer)}
	return config
}

// start has a certificate for at least one domain, or says why not. The others
// are tried again in the background.
func (a *acmeOrigin) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.setup.Timeout)
	defer cancel()
	var errs []error
	var missing []string
	for _, domain := range a.setup.Domains {
		if err := a.ready(ctx, domain); err != nil {
			missing = append(missing, domain)
			errs = append(errs, a.setup.obtainError(domain, err))
		}
	}
	if len(missing) == len(a.setup.Domains) {
		return errors.Join(errs...)
	}
	for i, domain := range missing {
		a.log.Error("no certificate for a domain; clients of it get another until the CA gives one", "name", domain, "err", errs[i])
	}
	a.jobs.Go(func() {
		_ = a.cache.RenewManagedCertificates(a.ctx) // it logs
		select {
		case <-a.ctx.Done():
		case <-time.After(missingWait):
			_ = a.config.Load().ManageAsync(a.ctx, missing)
		}
	})
	return nil
}

var errStored = errors.New("unusable files in the storage")

// ready has a certificate for domain in the cache, if need be an expired one.
func (a *acmeOrigin) ready(ctx context.Context, domain string) error {
	config := a.once
	cert, err := config.CacheManagedCertificate(ctx, domain)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := a.order(ctx, domain, config.ObtainCertAsync); err != nil {
			return err
		}
		_, err = config.CacheManagedCertificate(ctx, domain)
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errStored, err)
	case !cert.Expired():
		return nil
	}
	renew := func(ctx context.Context, name string) error { return config.RenewCertAsync(ctx, name, false) }
	if err := a.order(ctx, domain, renew); err != nil {
		a.log.Error("the stored certificate has expired, and a new one was not to be had; clients refuse it until there is one", "name", domain, "err", a.setup.obtainError(domain, err))
		return nil
	}
	a.cache.Remove([]string{cert.Hash()})
	_, err = config.CacheManagedCertificate(ctx, domain)
	return err
}

// An attempt ends when the CA has refused once. certmagic would go on for a
// month, and ask the terminal for an address in its interactive form.
type attempt struct {
	cancel context.CancelFunc
	err    error
}

type attemptKey struct{}

// order has do get a certificate in one attempt.
func (a *acmeOrigin) order(ctx context.Context, domain string, do func(context.Context, string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	try := &attempt{cancel: cancel}
	err := do(context.WithValue(ctx, attemptKey{}, try), domain)
	if try.err != nil {
		return try.err
	}
	if err != nil && context.Cause(ctx) != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
	}
	return err
}

// event hears what certmagic does.
func (a *acmeOrigin) event(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtained":
		result := resultObtained
		if renewal {
			result = resultRenewed
		}
		a.metrics.order(result)
		a.log.Info("certificate obtained", "name", name, "renewal", renewal, "ca", a.setup.CA)
	case "cert_failed":
		a.metrics.order(resultFailed)
		err, _ := data["error"].(error)
		if try, ok := ctx.Value(attemptKey{}).(*attempt); ok {
			try.err = err
			try.cancel()
			return nil
		}
		if ctx.Err() == nil {
			a.log.Error("the CA gave no certificate; it is tried again", "name", name, "renewal", renewal, "err", a.setup.obtainError(name, err))
		}
	}
	return nil
}

var errNoCertificate = errors.New("tailfin: there is no certificate yet")

func (a *acmeOrigin) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if name := normalName(hello.ServerName); a.domains[name] {
		if cert := a.newest(name); cert != nil {
			return cert, nil
		}
	}
	for _, domain := range a.setup.Domains {
		if cert := a.newest(domain); cert != nil {
			return cert, nil
		}
	}
	return nil, errNoCertificate
}

// newest is the certificate for domain, or nil.
func (a *acmeOrigin) newest(domain string) *tls.Certificate {
	var newest *tls.Certificate
	for _, c := range a.cache.AllMatchingCertificates(domain) {
		if c.Leaf != nil && (newest == nil || c.Leaf.NotAfter.After(newest.Leaf.NotAfter)) {
			newest = &c.Certificate
		}
	}
	return newest
}

// reload renews what is due, and takes what another instance has stored.
func (a *acmeOrigin) reload(ctx context.Context) error {
	if err := a.cache.RenewManagedCertificates(ctx); err != nil {
		return fmt.Errorf("look for certificates to renew: %w", err)
	}
	return nil
}

func (a *acmeOrigin) info() []Info {
	var infos []Info
	for _, domain := range a.setup.Domains {
		if cert := a.newest(domain); cert != nil {
			infos = append(infos, describe(cert.Leaf, a.setup.CA))
		}
	}
	return infos
}

func (a *acmeOrigin) close() {
	a.closing.Store(true)
	a.cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.jobs.Wait()
		a.cache.Stop()
	}()
	select {
	case <-stopped:
	case <-time.After(closeWait):
		a.log.Warn("a renewal was under way and did not end; the next start takes it up")
	}
	// Locks of an order that was cut off would hold the next instance up.
	certmagic.CleanUpOwnLocks(context.Background(), zap.NewNop())
}
