package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/gateway"
)

// upstreamTLS is how an upstream is trusted.
func upstreamTLS(c *config.Loaded) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.UpstreamInsecure}
	if c.UpstreamCA == "" {
		return conf, nil
	}
	text, err := os.ReadFile(c.UpstreamCA)
	if err != nil {
		return nil, c.Wrong("upstream-ca", c.UpstreamCA, err, "name a readable PEM file")
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(text) {
		return nil, c.Wrong("upstream-ca", c.UpstreamCA, errors.New("no certificate in it"), "give a PEM file with a CERTIFICATE block")
	}
	return conf, nil
}

// openGateway has all requests forwarded to an upstream.
func (d *daemon) openGateway(_ context.Context, s *store) error {
	c := d.conf
	tlsConf, err := upstreamTLS(c)
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Config{
		Upstream: c.Sink, TLS: tlsConf, PreserveHost: c.PreserveHost, MaxBody: int64(c.MaxBody),
		HeaderTimeout: c.UpstreamTimeout, Registerer: d.reg, Logger: d.log,
	})
	if err != nil {
		return c.Wrong("sink", s.name, err, "")
	}
	s.check, s.close = g.Check, g.Close
	s.setMaxBody = g.SetMaxBody
	var h http.Handler = g
	s.handler.Store(&h)
	return nil
}
