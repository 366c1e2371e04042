package service

import (
	"context"
	"errors"
	"net"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/certs"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
)

// openCerts has the certificates that the configuration asks for.
func (d *daemon) openCerts(ctx context.Context) error {
	opts, err := certOptions(d.conf)
	if err != nil {
		return err
	}
	opts.Log, opts.Registerer = d.log, d.reg
	source, err := certs.Open(ctx, opts)
	if err != nil {
		return explainCerts(d.conf, err)
	}
	d.certs = source
	d.onClose(func() { _ = source.Close() })
	return nil
}

func certOptions(c *config.Loaded) (certs.Options, error) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return certs.Options{}, c.Wrong("listen", c.Listen, err, "give HOST:PORT, for example 127.0.0.1:4433")
	}
	opts := certs.Options{
		Certs: c.Cert, Keys: c.Key, CACertOut: c.CACertOut, ClientCA: c.ClientCA, ClientAuth: c.ClientAuth,
	}
	if c.ClientCA == "" {
		opts.ClientAuth = ""
	}
	if host != "" {
		opts.Hosts = []string{host}
	}
	if len(c.ACMEDomain) > 0 {
		opts.ACME = certs.ACME{
			Domains: c.ACMEDomain, Email: c.ACMEEmail, CA: c.ACMECA, CARoot: c.ACMECARoot, AgreeTerms: c.ACMEAgreeTerms,
			Storage: c.ACMEStorage, Challenge: c.ACMEChallenge, Listen: c.ACMEListen,
			EABKeyID: c.ACMEEABKeyID, EABHMAC: c.ACMEEABHMAC, Profile: c.ACMEProfile,
		}
	}
	return opts, nil
}

func explainCerts(c *config.Loaded, err error) error {
	var option *certs.OptionError
	if errors.As(err, &option) {
		return c.Wrong(option.Option, option.Value, option.Err, option.Remedy)
	}
	return err
}
