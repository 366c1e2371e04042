package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/receiver"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	natssink "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink/nats"
	"github.com/tailfin-quic/tailfin/udp"
)

// serveCmd is `tailfin serve`.
type serveCmd struct {
	Listen    string        `default:"127.0.0.1:4433" placeholder:"ADDR" help:"UDP address to receive on (${default})."`
	Sink      string        `default:"dir:./received" placeholder:"URL" help:"Where to store: dir:DIR or nats://HOST/STREAM (${default})."`
	Backend   string        `default:"auto" placeholder:"NAME" help:"How to read datagrams: auto, uring, mmsg or msg (${default}). All but auto are strict."`
	Strict    bool          `help:"Refuse to start rather than go without io_uring or GRO."`
	NoGRO     bool          `name:"no-gro" help:"Do not let the kernel hand over trains of datagrams."`
	Pause     time.Duration `name:"moderation" default:"${moderation}" placeholder:"TIME" help:"How long to let datagrams gather at most while they come fast, 0 for never (${default})."`
	Drain     string        `default:"on" enum:"on,off" placeholder:"on|off" help:"Keep what was received when a client closes (${default}). Off is stock quic-go, for comparison."`
	Cert      string        `placeholder:"FILE" help:"Certificate chain in PEM. Without it a development certificate is made, in memory."`
	Key       string        `placeholder:"FILE" help:"Private key of --cert in PEM."`
	CACertOut string        `name:"cacert-out" placeholder:"FILE" help:"Write the development certificate here, for --cacert of a client."`
	MaxBody   int64         `default:"17179869184" placeholder:"BYTES" help:"Longest body that is stored (${default})."`
	Grace     time.Duration `default:"10s" placeholder:"TIME" help:"How long requests at work may take after SIGTERM or SIGINT (${default})."`
	LogFormat string        `default:"text" enum:"text,json" placeholder:"text|json" help:"Form of the log on stderr (${default})."`
	LogLevel  slog.Level    `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (${default}). Info has a line for each request."`
}

// Run serves until a signal.
func (c *serveCmd) Run(ctx context.Context) error {
	cert, err := c.certificate()
	if err != nil {
		return err
	}
	log := c.logger()
	store, err := c.openSink(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	conn, err := c.listen()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if c.Cert == "" {
		log.Warn("using a development certificate, made in memory; clients need --insecure or --cacert",
			"sha256", devcert.Fingerprint(cert), "expires", cert.Leaf.NotAfter.Format(time.DateOnly))
	}

	server := &tailfin.Server{
		Handler:      accesslog.Handler(&receiver.Handler{Sink: store, MaxBody: c.MaxBody}, log),
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		DisableDrain: c.Drain == "off",
		Logger:       log,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(conn) }()
	fmt.Fprintf(os.Stderr, "ready listen=%s backend=%s gro=%s drain=%s sink=%s reason=%q\n",
		conn.LocalAddr(), conn.Backend(), onOff(conn.GRO()), c.Drain, natssink.Redact(c.Sink), conn.Reason())

	select {
	case err := <-served:
		return fmt.Errorf("serving on %s ended: %w", c.Listen, err)
	case <-ctx.Done():
	}
	log.Info("stopping: GOAWAY is sent, requests at work may finish", "grace", c.Grace.String())
	grace, cancel := context.WithTimeout(context.Background(), c.Grace)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		log.Warn("grace is over; requests at work were cut off", "err", err)
	}
	if err := <-served; !errors.Is(err, tailfin.ErrServerClosed) {
		return fmt.Errorf("stopping: %w", err)
	}
	stats, drained := conn.Stats(), server.DrainStats()
	log.Info("stopped", "datagrams", stats.Datagrams, "bytes", stats.Bytes, "trains", stats.Trains,
		"kernel_drops", stats.KernelDrops, "not_quic", server.DroppedPackets(),
		"closes", drained.Closes, "saved_streams", drained.Streams, "saved_bytes", drained.Bytes)
	return nil
}

// openSink opens the sink that the flag names. Its URL may have credentials.
func (c *serveCmd) openSink(ctx context.Context, log *slog.Logger) (sink.Sink, error) {
	if natssink.IsURL(c.Sink) {
		store, err := natssink.Open(ctx, c.Sink, natssink.Options{Logger: log})
		if err != nil {
			return nil, &usageError{"--sink", natssink.Redact(c.Sink), err, "give nats://HOST:PORT/STREAM, for example nats://127.0.0.1:4222/UPLOADS?create=1"}
		}
		return store, nil
	}
	store, err := sink.Open(c.Sink)
	if err != nil {
		return nil, &usageError{"--sink", c.Sink, err, "give dir:DIR with a folder that you may write, for example dir:./received"}
	}
	return store, nil
}

func (c *serveCmd) logger() *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// listen opens the socket that the flags ask for.
func (c *serveCmd) listen() (*udp.Conn, error) {
	backend, err := udp.ParseBackend(c.Backend)
	if err != nil {
		return nil, &usageError{"--backend", c.Backend, err, "give auto, uring, mmsg or msg"}
	}
	if c.Pause < 0 || c.Pause > udp.MaxModeration {
		return nil, &usageError{"--moderation", c.Pause.String(), fmt.Errorf("not from 0 to %v", udp.MaxModeration), "give for example 100us, or 0 to read each datagram at once"}
	}
	conn, err := udp.Listen("udp", c.Listen,
		udp.WithBackend(backend), udp.WithGRO(!c.NoGRO), udp.WithStrict(c.Strict), udp.WithModeration(c.Pause))
	if err == nil {
		return conn, nil
	}
	var opErr *net.OpError
	var addrErr *net.AddrError
	var dnsErr *net.DNSError
	if errors.As(err, &opErr) || errors.As(err, &addrErr) || errors.As(err, &dnsErr) {
		return nil, &usageError{"--listen", c.Listen, err, "give HOST:PORT of this machine with a free UDP port, for example 127.0.0.1:4433; `ss -ulpn` shows who has a port"}
	}
	if c.Strict && backend == udp.Auto {
		return nil, &usageError{"--strict", "", err, "leave --strict out to fall back; `tailfin doctor` says what this machine lacks"}
	}
	return nil, &usageError{"--backend", c.Backend, err, "use --backend auto, which falls back and says why; `tailfin doctor` says what blocks io_uring"}
}

// certificate loads the one that the flags name, or makes one.
func (c *serveCmd) certificate() (tls.Certificate, error) {
	switch {
	case c.Cert == "" && c.Key != "":
		return tls.Certificate{}, &usageError{"--key", c.Key, errors.New("--cert is missing"), "give both, or neither for a development certificate"}
	case c.Cert != "" && c.Key == "":
		return tls.Certificate{}, &usageError{"--cert", c.Cert, errors.New("--key is missing"), "give both, or neither for a development certificate"}
	case c.Cert != "" && c.CACertOut != "":
		return tls.Certificate{}, &usageError{"--cacert-out", c.CACertOut, errors.New("there is no development certificate to write with --cert"), "leave one of the two out"}
	case c.Cert != "":
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return tls.Certificate{}, &usageError{"--cert", c.Cert, err, "give a readable PEM chain with --cert and its own PEM key with --key"}
		}
		return cert, nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return tls.Certificate{}, &usageError{"--listen", c.Listen, err, "give HOST:PORT, for example 127.0.0.1:4433"}
	}
	cert, err := devcert.New(host)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make development certificate: %w", err)
	}
	if c.CACertOut != "" {
		if err := os.WriteFile(c.CACertOut, devcert.PEM(cert), 0o644); err != nil {
			return tls.Certificate{}, &usageError{"--cacert-out", c.CACertOut, err, "name a file that can be written"}
		}
	}
	return cert, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
