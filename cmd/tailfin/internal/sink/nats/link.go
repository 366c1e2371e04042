package natssink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Pauses between two attempts to connect double up to the longest. Half of each
// is random, so that the clients of a server do not come back all at once.
const (
	minReconnect = 50 * time.Millisecond
	maxReconnect = 2 * time.Second
)

func reconnectDelay(attempts int) time.Duration {
	d := min(minReconnect<<min(attempts, 10), maxReconnect)
	return d/2 + rand.N(d/2)
}

// writeTimeout bounds one write to a server that does not read.
const writeTimeout = 10 * time.Second

// connectTimeout bounds one attempt to connect to one server.
const connectTimeout = 3 * time.Second

// refusalAge is for how long a refusal of the server explains a missing answer.
const refusalAge = time.Minute

// A link is the connection, and the news of it.
type link struct {
	nc  *nats.Conn
	log *slog.Logger
	m   *metrics

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change; mu
	refused error         // what the server said last on its own account; mu
	when    time.Time     // of refused; mu
}

// dial connects. A server that is not there is no error: the link goes on
// trying. Credentials that are refused at the start, or files that cannot be read,
// are.
func dial(cfg *Config, log *slog.Logger, m *metrics) (*link, error) {
	l := &link{log: log, m: m, changed: make(chan struct{})}
	opts, err := l.options(cfg)
	if err != nil {
		return nil, err
	}
	o := nats.GetDefaultOptions()
	o.Servers = cfg.Servers
	for _, set := range opts {
		if err := set(&o); err != nil {
			return nil, fmt.Errorf("%s: %w", cfg, err)
		}
	}
	first := o
	first.RetryOnFailedConnect = false
	if l.nc, err = first.Connect(); err == nil {
		l.m.connected.Set(1)
		return l, nil
	}
	if !temporary(err) {
		return nil, fmt.Errorf("connect to %s: %w", cfg, err)
	}
	log.Warn("NATS cannot be reached; uploads are refused with 503 until it can", "sink", cfg.String(), "err", err)
	if l.nc, err = o.Connect(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg, err)
	}
	return l, nil
}

// temporary tells a server that is not there from one that says no, and from
// files that cannot be read.
func temporary(err error) bool {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return false
	}
	for _, e := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
		nats.ErrNkeysNotSupported, nats.ErrSecureConnRequired, nats.ErrSecureConnWanted} {
		if errors.Is(err, e) {
			return false
		}
	}
	return true
}

func (l *link) options(cfg *Config) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("tailfin"),
		nats.Timeout(connectTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.IgnoreAuthErrorAbort(), // credentials that are being replaced may be refused for a while
		// Nothing is kept for a connection that is down: publish sends it again.
		nats.ReconnectBufSize(-1),
		nats.FlusherTimeout(writeTimeout),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ConnectHandler(func(nc *nats.Conn) { l.up(nc, false) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { l.up(nc, true) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.down(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { l.refuse(err) }),
	}
	if cfg.auth != nil {
		opts = append(opts, cfg.auth)
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(cfg.NKey)
		if err != nil {
			return nil, &ConfigError{"nkey", cfg.NKey, "cannot be used: " + err.Error(), "name a readable file with the seed of a user"}
		}
		opts = append(opts, nkey)
	}
	if cfg.TLS {
		opts = append(opts, nats.Secure())
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return opts, nil
}

func (l *link) up(nc *nats.Conn, again bool) {
	if again {
		l.m.reconnects.Inc()
	}
	l.m.connected.Set(1)
	l.log.Info("connected to NATS", "server", nc.ConnectedUrlRedacted(), "again", again)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = nil
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) down(err error) {
	l.m.connected.Set(0)
	if err != nil { // nil when the sink itself closes it
		l.log.Warn("the connection to NATS is lost; connecting again", "err", err)
	}
}

func (l *link) refuse(err error) {
	l.log.Warn("NATS reports an error", "err", err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.when = err, time.Now()
}

func (l *link) lastRefusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.when) > refusalAge {
		return nil
	}
	return l.refused
}

// await returns when there is a connection, or the end of ctx.
func (l *link) await(ctx context.Context) error {
	for {
		// The channel first: a change after the look at the state closes it.
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if l.nc.IsConnected() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return l.lost(ctx)
		}
	}
}

// lost says why there is no connection.
func (l *link) lost(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errClosed) {
		return cause
	}
	if err := l.nc.LastError(); err != nil {
		return fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
	}
	return nats.ErrDisconnected
}
