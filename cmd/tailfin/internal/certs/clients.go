package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// What Options.ClientAuth may be.
const (
	RequireClient = "require" // a client without a certificate of the CA is refused
	RequestClient = "request" // it may have none, but not a wrong one
)

// clientCAs are the CAs that client certificates come from.
type clientCAs struct {
	file    string
	require bool
	log     *slog.Logger
	metrics *metrics
	pool    atomic.Pointer[x509.CertPool]

	mu   sync.Mutex // held through a look; guards seen
	seen sighting
}

func openClientCAs(opts Options, m *metrics) (*clientCAs, error) {
	c := &clientCAs{file: opts.ClientCA, log: opts.Log, metrics: m}
	switch opts.ClientAuth {
	case "", RequireClient:
		c.require = true
	case RequestClient:
	default:
		return nil, &OptionError{"client-auth", opts.ClientAuth, errors.New("unknown"), "give require, or request for clients that may have no certificate"}
	}
	b, err := readPEM("client-ca", c.file)
	if err != nil {
		return nil, err
	}
	pool, err := parsePool("client-ca", c.file, b)
	if err != nil {
		return nil, err
	}
	c.pool.Store(pool)
	c.seen.taken = contentID(b)
	return c, nil
}

// parsePool has the CAs in b.
func parsePool(option, path string, b []byte) (*x509.CertPool, error) {
	if err := wantBlock(option, path, b, blockCertificate, "give the certificates of the CAs in PEM"); err != nil {
		return nil, err
	}
	cas, err := parseCertificates(option, path, b)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, nil
}

// configure has conf ask for client certificates. They are verified by
// VerifyConnection, which sees the CAs of the moment and is called for resumed
// sessions too: a CA that was taken out is refused at once. ClientCAs stays
// empty, since it would name the CAs of the start to clients, who choose by it.
func (c *clientCAs) configure(conf *tls.Config) {
	conf.ClientAuth = tls.RequestClientCert
	if c.require {
		conf.ClientAuth = tls.RequireAnyClientCert // tells a client without one that it needs one
	}
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		err := c.verify(state.PeerCertificates)
		if err != nil {
			c.metrics.refuseClient()
			c.log.Debug("client certificate refused", "server_name", state.ServerName, "resumed", state.DidResume, "err", err)
		}
		return err
	}
}

func (c *clientCAs) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		if c.require {
			return errors.New("the client has no certificate")
		}
		return nil
	}
	opts := x509.VerifyOptions{
		Roots: c.pool.Load(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return fmt.Errorf("the client's certificate for %q: %w", chain[0].Subject.String(), err)
	}
	return nil
}

func (c *clientCAs) look(asked bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := readPEM("client-ca", c.file)
	found := contentID(b)
	if err != nil {
		found = err.Error()
	}
	switch c.seen.judge(found, asked) {
	case wait:
		return nil
	case unchanged:
		c.seen.refused = ""
		return nil
	}
	var pool *x509.CertPool
	if err == nil {
		pool, err = parsePool("client-ca", c.file, b)
	}
	if err != nil {
		if asked || found != c.seen.refused {
			c.log.Error("new client CAs refused; the old ones still hold", "file", c.file, "err", err)
			c.metrics.reload(resultRefused)
		}
		c.seen.refused = found
		return err
	}
	c.pool.Store(pool)
	c.seen = sighting{taken: found}
	c.log.Info("client CAs replaced", "file", c.file)
	c.metrics.reload(resultTaken)
	return nil
}
