package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// clientFlags are shared by the commands that speak to a server.
type clientFlags struct {
	CACert   string `name:"cacert" placeholder:"FILE" help:"Trust the certificates in this PEM file only."`
	Insecure bool   `help:"Trust any certificate. For development."`
	Backend  string `default:"auto" placeholder:"NAME" help:"How to read datagrams: auto, uring, mmsg or msg (${default})."`
	Drain    string `default:"on" enum:"on,off" placeholder:"on|off" help:"Keep what was received when the server closes (${default}). Off is stock quic-go, for comparison."`
}

// transport makes the Transport that the flags ask for.
func (f *clientFlags) transport() (*tailfin.Transport, error) {
	backend, err := udp.ParseBackend(f.Backend)
	if err != nil {
		return nil, &usageError{"--backend", f.Backend, err, "give auto, uring, mmsg or msg"}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: f.Insecure}
	if f.CACert != "" {
		if f.Insecure {
			return nil, &usageError{"--cacert", f.CACert, errors.New("--insecure trusts any certificate"), "leave one of the two out"}
		}
		pem, err := os.ReadFile(f.CACert)
		if err != nil {
			return nil, &usageError{"--cacert", f.CACert, err, "name a readable PEM file"}
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &usageError{"--cacert", f.CACert, errors.New("no certificate in it"), "give a PEM file with a CERTIFICATE block"}
		}
	}
	return &tailfin.Transport{
		TLSClientConfig: conf,
		ListenOptions:   []udp.Option{udp.WithBackend(backend)},
		DisableDrain:    f.Drain == "off",
	}, nil
}

// parseURL takes an https URL, with or without its scheme.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "https" || u.Host == "") {
		err = errors.New("not an https URL with a host")
	}
	if err != nil {
		return nil, &usageError{"URL", fmt.Sprintf("%q", text), err, "give https://HOST:PORT/NAME, for example https://127.0.0.1:4433/report"}
	}
	return u, nil
}
