package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// developmentSpare is how long before its end a development certificate is
// replaced: they last less than 14 days, and a server may run for longer.
const developmentSpare = 24 * time.Hour

// development makes its certificate itself.
type development struct {
	hosts []string
	out   string // file for the certificate, or empty
	log   *slog.Logger
	cert  atomic.Pointer[tls.Certificate]
	mu    sync.Mutex // held while a certificate is made
}

func openDevelopment(opts Options) (*development, error) {
	d := &development{hosts: opts.Hosts, out: opts.CACertOut, log: opts.Log}
	if err := d.make(); err != nil {
		return nil, err
	}
	cert := d.cert.Load()
	d.log.Warn("using a development certificate, made in memory; clients need --insecure or --cacert",
		"sha256", devcert.Fingerprint(*cert), "expires", cert.Leaf.NotAfter.Format(time.DateOnly))
	return d, nil
}

func (d *development) make() error {
	cert, err := devcert.New(d.hosts...)
	if err != nil {
		return fmt.Errorf("make development certificate: %w", err)
	}
	if d.out != "" {
		if err := os.WriteFile(d.out, devcert.PEM(cert), 0o644); err != nil {
			var pathErr *fs.PathError
			if errors.As(err, &pathErr) {
				err = pathErr.Err
			}
			return &OptionError{"cacert-out", d.out, err, "name a file that can be written"}
		}
	}
	d.cert.Store(&cert)
	return nil
}

func (d *development) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := d.cert.Load()
	if ending(cert) && d.mu.TryLock() { // the others go on with what there is
		defer d.mu.Unlock()
		if cert = d.cert.Load(); ending(cert) {
			if err := d.make(); err != nil {
				d.log.Error("the development certificate ends, and there is no new one", "expires", cert.Leaf.NotAfter, "err", err)
				return cert, nil
			}
			cert = d.cert.Load()
			d.log.Warn("the development certificate was near its end; this is a new one", "sha256", devcert.Fingerprint(*cert))
		}
	}
	return cert, nil
}

func ending(cert *tls.Certificate) bool { return time.Until(cert.Leaf.NotAfter) < developmentSpare }

// reload keeps the certificate: clients trust it by its fingerprint.
func (d *development) reload(context.Context) error { return nil }

func (d *development) info() []Info { return []Info{describe(d.cert.Load().Leaf, "development")} }

func (d *development) close() {}
