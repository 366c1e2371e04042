package service

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/certs"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/config"
)

// openCerts has the certificates that the configuration asks for.
func (d *daemon) openCerts(ctx context.Context) error {
	c := d.conf
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c.Wrong("listen", c.Listen, err, "give HOST:PORT, for example 127.0.0.1:4433")
	}
	opts := certs.Options{
		Certs: c.Cert, Keys: c.Key, CACertOut: c.CACertOut, ClientCA: c.ClientCA,
		Log: d.log, Registerer: d.reg,
	}
	if host != "" {
		opts.Hosts = []string{host}
	}
	if len(c.ACMEDomain) > 0 {
		if opts.ACME, err = acme(c); err != nil {
			return err
		}
	}
	source, err := certs.Open(ctx, opts)
	if err != nil {
		return explainCerts(c, err)
	}
	d.certs = source
	d.onClose(func() { _ = source.Close() })
	return nil
}

// acme is what the configuration says of ACME.
func acme(c *config.Loaded) (certs.ACME, error) {
	a := certs.ACME{
		Domains: c.ACMEDomain, Email: c.ACMEEmail, CA: c.ACMECA, CARoot: c.ACMECARoot, AgreeTerms: c.ACMEAgreeTerms,
		Storage: c.ACMEStorage, Challenge: c.ACMEChallenge, Listen: c.ACMEListen, EABKeyID: c.ACMEEABKeyID,
	}
	if c.ACMEEABMACEnv != "" {
		// Not on the command line, where every user of the machine reads it.
		if a.EABHMAC = os.Getenv(c.ACMEEABMACEnv); a.EABHMAC == "" {
			return a, c.Wrong("acme-eab-mac-env", c.ACMEEABMACEnv, errors.New("the variable is empty or not set"), "set it to the key in base64url")
		}
	}
	return a, nil
}

func explainCerts(c *config.Loaded, err error) error {
	var option *certs.OptionError
	if errors.As(err, &option) {
		return c.Wrong(option.Option, option.Value, option.Err, option.Remedy)
	}
	return err
}
