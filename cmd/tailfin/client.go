package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http/httpguts"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
	"github.com/tailfin-quic/tailfin/udp"
)

// clientFlags are shared by the commands that speak to a server.
type clientFlags struct {
	CACert   string `name:"cacert" placeholder:"FILE" help:"Trust the certificates in this PEM file only."`
	Insecure bool   `help:"Trust any certificate. For development."`
	Backend  string `default:"auto" placeholder:"NAME" help:"How to read datagrams: auto, uring, mmsg or msg (${default})."`
	Drain    string `default:"on" enum:"on,off" placeholder:"on|off" help:"Keep what was received when the server closes (${default}). Off is stock quic-go, for comparison."`

	Header      []string      `short:"H" sep:"none" placeholder:"'NAME: VALUE'" help:"Add a field to every request. May be repeated."`
	Parallel    int           `short:"P" default:"1" placeholder:"N" help:"Transfers at a time (${default})."`
	Connections int           `default:"0" placeholder:"N" help:"Connections that all transfers share; 0 gives each its own (${default})."`
	Retries     int           `env:"TAILFIN_RETRIES" default:"0" placeholder:"N" help:"Failures in a row after which to go on where a transfer was cut (${default}: none, every loss is one)."`
	RetryWait   time.Duration `default:"500ms" placeholder:"TIME" help:"Pause before the first retry; it doubles up to 15s (${default})."`

	Timeout        time.Duration `default:"0" placeholder:"TIME" help:"Longest time of one transfer with its retries; 0 is no bound (${default})."`
	ConnectTimeout time.Duration `default:"10s" placeholder:"TIME" help:"Longest time to make a connection (${default})."`
	IdleTimeout    time.Duration `default:"30s" placeholder:"TIME" help:"Give a connection up whose peer has been unreachable for so long (${default})."`

	JSON    bool `name:"json" help:"Print one line of JSON a transfer on standard output."`
	Quiet   bool `short:"q" help:"No progress, no notes; errors only."`
	Verbose bool `short:"v" help:"Tell of connections and answers on standard error."`
}

// silence is how long nothing may come from the server until it is sent a ping. Where a NAT
// has forgotten the client, what it receives goes nowhere until it sends something itself.
const silence = 2 * time.Second

// session makes what the flags ask for, for so many transfers, and checks them.
// stream tells that bodies go to standard output.
func (f *clientFlags) session(transfers int, stream bool) (*client.Session, error) {
	backend, err := udp.ParseBackend(f.Backend)
	if err != nil {
		return nil, &usageError{"--backend", f.Backend, err, "give auto, uring, mmsg or msg"}
	}
	conf, err := f.tlsConfig()
	if err != nil {
		return nil, err
	}
	if err := f.checkNumbers(); err != nil {
		return nil, err
	}
	s := &client.Session{
		NewTransport: func() *tailfin.Transport {
			return &tailfin.Transport{
				TLSClientConfig: conf,
				// A server that is slow to answer is no dead one: it answers pings.
				QUICConfig:         &quic.Config{MaxIdleTimeout: f.IdleTimeout, KeepAlivePeriod: min(f.IdleTimeout/3, silence)},
				ListenOptions:      []udp.Option{udp.WithBackend(backend)},
				DialTimeout:        f.ConnectTimeout,
				DisableCompression: true, // ranges are of what is sent, and files are wanted as they are
				DisableDrain:       f.Drain == "off",
			}
		},
		Connections: f.Connections,
		Retries:     f.Retries,
		RetryWait:   f.RetryWait,
		Timeout:     f.Timeout,
	}
	if s.Header, s.Host, err = f.header(); err != nil {
		return nil, err
	}
	if f.Verbose {
		s.Verbose = os.Stderr
	}
	if !f.Quiet {
		s.Notes = os.Stderr
	}
	if !f.Quiet && !f.JSON && (!stream || !client.IsTerminal(os.Stdout)) {
		s.Progress = client.NewProgress(os.Stderr, transfers)
	}
	return s, nil
}

func (f *clientFlags) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: f.Insecure}
	if f.CACert == "" {
		return conf, nil
	}
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
	return conf, nil
}

func (f *clientFlags) checkNumbers() error {
	switch {
	case f.Parallel < 1:
		return &usageError{"--parallel", fmt.Sprint(f.Parallel), errors.New("nothing would be done"), "give 1 or more"}
	case f.Connections < 0:
		return &usageError{"--connections", fmt.Sprint(f.Connections), errors.New("below 0"), "give how many are shared, or 0 for one a transfer"}
	case f.Retries < 0:
		return &usageError{"--retries", fmt.Sprint(f.Retries), errors.New("below 0"), "give 0 for none"}
	case f.RetryWait < 0:
		return &usageError{"--retry-wait", f.RetryWait.String(), errors.New("below 0"), "give a time such as 500ms"}
	case f.Timeout < 0:
		return &usageError{"--timeout", f.Timeout.String(), errors.New("below 0"), "give a time such as 1m, or 0 for no bound"}
	case f.ConnectTimeout <= 0:
		return &usageError{"--connect-timeout", f.ConnectTimeout.String(), errors.New("not above 0"), "give a time such as 10s"}
	case f.IdleTimeout < time.Second:
		return &usageError{"--idle-timeout", f.IdleTimeout.String(), errors.New("below 1s"), "give a time such as 30s"}
	}
	return nil
}

// ownFields are set by the commands themselves, and a transfer that is resumed
// relies on them.
var ownFields = []string{"Content-Length", "Range", "If-Range", "Transfer-Encoding"}

// header reads the fields of -H. Host is none of a request's own.
func (f *clientFlags) header() (http.Header, string, error) {
	h, host := http.Header{}, ""
	for _, line := range f.Header {
		name, value, ok := strings.Cut(line, ":")
		name, value = http.CanonicalHeaderKey(name), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, "", &usageError{"-H", fmt.Sprintf("%q", line), errors.New("not a header field"), "give 'NAME: VALUE', for example 'Authorization: Bearer TOKEN'"}
		}
		for _, own := range ownFields {
			if name == own || strings.HasPrefix(name, "Upload-") {
				return nil, "", &usageError{"-H", fmt.Sprintf("%q", line), errors.New("the command sets this field itself"), "get -C and put --resume go on where a transfer was cut"}
			}
		}
		if name == "Host" {
			host = value
			continue
		}
		h[name] = append(h[name], value)
	}
	return h, host, nil
}

// outcome is the error of a batch: how many of what have failed, or are missing
// since the command was interrupted.
func outcome(ctx context.Context, sum *client.Summary, total int, what string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted after %d of %d %s", sum.Requests, total, what)
	case sum.Failed > 0:
		return fmt.Errorf("%d of %d %s failed", sum.Failed, total, what)
	}
	return nil
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
