package certs

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestObtain has a certificate for each of two domains from a real CA, and
// serves it; the next start does without the CA.
func TestObtain(t *testing.T) {
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			p := startPebble(t, pebbleOptions{})
			first, second := challenge+"-1.tailfin.test", challenge+"-2.tailfin.test"
			opts := Options{ACME: p.options(t.TempDir(), first, second), Log: (&logBuffer{}).logger(), Registerer: prometheus.NewRegistry()}
			opts.ACME.Email = "admin@tailfin.test"
			opts.ACME.Challenge = challenge
			if challenge == TLSALPN01 {
				opts.ACME.Listen = "127.0.0.1:" + p.tlsPort
			}
			s := openPair(t, opts)
			addr := serve(t, s)
			serials := map[string]string{}
			for _, domain := range []string{first, second} {
				state, err := fetch(t.Context(), addr, p.client(domain))
				if err != nil {
					t.Fatal(err)
				}
				serials[domain] = state.PeerCertificates[0].SerialNumber.Text(16)
			}
			infos := s.Info()
			if len(infos) != 2 || infos[0].Names[0] != first || infos[1].Serial != serials[second] || infos[0].Source != p.directory || !strings.Contains(infos[0].Issuer, "Pebble") {
				t.Errorf("info: %+v", infos)
			}
			if n := metric(t, opts.Registerer.(*prometheus.Registry), "tailfin_certificate_acme_orders_total", "result", resultObtained); n != 2 {
				t.Errorf("%v orders are counted", n)
			}
			if err := s.Reload(t.Context()); err != nil {
				t.Errorf("reload: %v", err)
			}
			conf := p.client("unknown.tailfin.test")
			conf.InsecureSkipVerify = true
			if state, err := fetch(t.Context(), addr, conf); err != nil || state.PeerCertificates[0].SerialNumber.Text(16) != serials[first] {
				t.Errorf("a client of an unknown host does not get the first: %v", err)
			}
			if ln, err := net.Listen("tcp", opts.ACME.Listen); err != nil {
				t.Errorf("the port of the challenge stays open: %v", err)
			} else {
				_ = ln.Close()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			p.stop()
			opts.Registerer = nil
			again := openPair(t, opts)
			state, err := fetch(t.Context(), serve(t, again), p.client(second))
			if err != nil || state.PeerCertificates[0].SerialNumber.Text(16) != serials[second] {
				t.Errorf("without the CA: %v", err)
			}
		})
	}
}

// TestRenewUnderLoad lets the CA's certificates end within seconds, while
// clients connect anew all the time: they are renewed in time, and no request
// fails.
func TestRenewUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, renewals = 4, 2
	p := startPebble(t, pebbleOptions{validity: 40 * time.Second})
	log, reg := &logBuffer{}, prometheus.NewRegistry()
	opts := Options{ACME: p.options(t.TempDir(), "renew.tailfin.test"), Log: log.logger(), Registerer: reg}
	opts.ACME.RenewCheck = 5 * time.Second // it is renewed when less than 25 s are left
	s := openPair(t, opts)
	addr := serve(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	var mu sync.Mutex
	serials := map[string]int{} // connections that saw each
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				state, err := fetch(ctx, addr, p.client("renew.tailfin.test"))
				if err != nil {
					t.Errorf("request: %v", err)
					stop.Store(true)
					return
				}
				mu.Lock()
				serials[state.PeerCertificates[0].SerialNumber.Text(16)]++
				stop.Store(stop.Load() || len(serials) > renewals)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(serials) <= renewals {
		t.Fatalf("%d certificates were seen\n%s", len(serials), log)
	}
	if n := metric(t, reg, "tailfin_certificate_acme_orders_total", "result", resultRenewed); n < renewals {
		t.Errorf("%v renewals are counted", n)
	}
	t.Logf("connections by certificate: %v; none failed", serials)
}

// TestStoredExpired starts with a stored certificate that has expired.
func TestStoredExpired(t *testing.T) {
	t.Parallel()
	p := startPebble(t, pebbleOptions{validity: 4 * time.Second})
	log := &logBuffer{}
	opts := Options{ACME: p.options(t.TempDir(), "expired.tailfin.test"), Log: log.logger()}
	expire := func(s *Source) string {
		t.Helper()
		info := s.Info()[0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(info.NotAfter.Add(2 * time.Second))) // certmagic adds the second that X.509 has no parts of
		return info.Serial
	}
	old := expire(openPair(t, opts))
	renewed := openPair(t, opts)
	if got := renewed.Info()[0].Serial; got == old {
		t.Fatalf("the CA is there, and the expired certificate is served\n%s", log)
	}
	last := expire(renewed)
	p.stop()
	s := openPair(t, opts)
	if got := s.Info()[0].Serial; got != last {
		t.Errorf("serves %s, not the stored %s", got, last)
	}
	if log.count("the stored certificate has expired") != 1 || log.count("will retry") != log.count("level=DEBUG msg=\"will retry") {
		t.Errorf("log:\n%s", log)
	}
}

// TestObtainFails has what goes wrong between an operator and a CA: the error
// says what to do.
func TestObtainFails(t *testing.T) {
	t.Parallel()
	p := startPebble(t, pebbleOptions{blocked: []string{"blocked.tailfin.test"}})
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.pem")
	write(t, foreign, newTestCA(t, "foreign CA").pem())

	opts := p.options(dir, "a.tailfin.test")
	opts.CARoot = foreign
	wantOptionError(t, Options{ACME: opts}, "acme-ca-root", foreign, "is not signed by it", "the CA's own web certificate")
	opts.CARoot = ""
	wantOptionError(t, Options{ACME: opts}, "acme-ca", p.directory, "--acme-ca-root")
	opts = p.options(dir, "a.tailfin.test")
	opts.CA = strings.Replace(p.directory, "localhost", "127.0.0.1", 1)
	wantOptionError(t, Options{ACME: opts}, "acme-ca", opts.CA, "the name that the CA's own web certificate is for")

	opts = p.options(dir, "b.tailfin.test")
	opts.Listen = "127.0.0.1:" + freePort(t) // which the CA does not come to
	wantObtainError(t, opts, "b.tailfin.test", "let TCP port 80 of b.tailfin.test reach "+opts.Listen, "UDP")
	wantObtainError(t, p.options(dir, "blocked.tailfin.test"), "blocked.tailfin.test", "the CA gives no certificates for this name")
	opts = p.options(dir, "c.tailfin.test")
	opts.CA = "https://localhost:" + freePort(t) + "/dir"
	wantObtainError(t, opts, "c.tailfin.test", "connection refused", "check --acme-ca")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{ACME: p.options(dir, "d.tailfin.test")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cut off: %v", err)
	}
}

func wantObtainError(t *testing.T, acme ACME, domain string, parts ...string) {
	t.Helper()
	s, err := Open(t.Context(), Options{ACME: acme})
	if err == nil {
		_ = s.Close()
		t.Fatalf("a certificate for %s", domain)
	}
	var obtainErr *ObtainError
	if !errors.As(err, &obtainErr) || obtainErr.Domain != domain || obtainErr.CA != acme.CA {
		t.Fatalf("%v is not an ObtainError of %s and %s", err, domain, acme.CA)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// TestSomeDomains: a domain without a certificate does not stop the others.
func TestSomeDomains(t *testing.T) {
	t.Parallel()
	p := startPebble(t, pebbleOptions{blocked: []string{"bad.tailfin.test"}})
	log := &logBuffer{}
	s := openPair(t, Options{ACME: p.options(t.TempDir(), "bad.tailfin.test", "good.tailfin.test"), Log: log.logger()})
	addr := serve(t, s)
	if _, err := fetch(t.Context(), addr, p.client("good.tailfin.test")); err != nil {
		t.Error(err)
	}
	if infos := s.Info(); len(infos) != 1 || infos[0].Names[0] != "good.tailfin.test" {
		t.Errorf("info: %+v", infos)
	}
	if log.count("no certificate for a domain") != 1 {
		t.Errorf("log:\n%s", log)
	}
}

// TestExternalAccount binds the ACME account to one that the CA knows.
func TestExternalAccount(t *testing.T) {
	t.Parallel()
	key := base64.RawURLEncoding.EncodeToString([]byte("a key of thirty-two bytes, or so"))
	p := startPebble(t, pebbleOptions{eab: map[string]string{"customer-7": key}})
	dir := t.TempDir()
	wantObtainError(t, p.options(dir, "eab.tailfin.test"), "eab.tailfin.test", "--acme-eab-key-id")
	opts := p.options(dir, "eab.tailfin.test")
	opts.EABKeyID, opts.EABHMAC = "customer-7", key+"="
	if s := openPair(t, Options{ACME: opts}); len(s.Info()) != 1 {
		t.Errorf("info: %+v", s.Info())
	}
}

// TestDamagedStorage: a stored certificate that cannot be read is an error that
// says where it is.
func TestDamagedStorage(t *testing.T) {
	t.Parallel()
	p := startPebble(t, pebbleOptions{})
	opts := p.options(t.TempDir(), "damaged.tailfin.test")
	if err := openPair(t, Options{ACME: opts}).Close(); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(opts.Storage, "certificates", "*", "*", "*.key"))
	if err != nil || len(keys) != 1 {
		t.Fatalf("stored keys: %v, %v", keys, err)
	}
	if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v", info.Mode(), err)
	}
	write(t, keys[0], []byte("nonsense"))
	wantObtainError(t, opts, "damaged.tailfin.test", "unusable files in the storage", opts.Storage)
}

// TestNoCertificateYet: there is no certificate to serve, which crypto/tls tells
// the client.
func TestNoCertificateYet(t *testing.T) {
	a := &acmeOrigin{setup: &acmeSetup{}}
	if cert, err := a.certificate(&tls.ClientHelloInfo{ServerName: "a.test"}); cert != nil || !errors.Is(err, errNoCertificate) {
		t.Errorf("%v, %v", cert, err)
	}
}
