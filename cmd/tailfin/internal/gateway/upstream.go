package gateway

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// Schemes of upstreams.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	schemeHTTP3 = "h3"
)

// IsURL tells whether a sink's URL is that of an upstream.
func IsURL(sink string) bool {
	scheme, _, ok := strings.Cut(sink, "://")
	return ok && (scheme == schemeHTTP || scheme == schemeHTTPS || scheme == schemeHTTP3)
}

// An upstream is where requests go: how, and the URL they go to.
type upstream struct {
	scheme string
	url    *url.URL // http or https, with the prefix as its path
}

// parseUpstream parses the URL of an upstream.
func parseUpstream(s string) (upstream, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("upstream %q: %s; give https://HOST[:PORT][/PREFIX], h3://… or http://…", sink.Redact(s), fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(s)
	switch {
	case err != nil && strings.Contains(s, "@"):
		return upstream{}, bad("it cannot be parsed") // the error may quote a password
	case err != nil:
		return upstream{}, bad("%v", errors.Unwrap(err))
	case !IsURL(s):
		return upstream{}, bad("it is none")
	case strings.Contains(u.Host, ","):
		return upstream{}, bad("one upstream is taken, not a list")
	case u.Hostname() == "":
		return upstream{}, bad("no host")
	case u.User != nil:
		return upstream{}, bad("no user and password, please")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return upstream{}, bad("it ends with its path")
	}
	if problem := checkPath(u.Path); problem != "" {
		return upstream{}, bad("%s", problem)
	}
	up := upstream{scheme: u.Scheme, url: u}
	if u.Scheme == schemeHTTP3 {
		u.Scheme = schemeHTTPS
	}
	return up, nil
}

// authority is host:port, as Capabilities and Breaker know it.
func (u upstream) authority() string {
	port := u.url.Port()
	switch {
	case port != "":
	case u.url.Scheme == schemeHTTP:
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.url.Hostname(), port)
}

// What bounds the way to an upstream if nothing else is asked for.
const (
	defaultDialTimeout   = 5 * time.Second
	defaultHeaderTimeout = time.Minute
	defaultMaxConns      = 256
	// An upstream that is gone without a word is found out so long after a request on
	// a connection from before, and asked that often while it is busy with one.
	quicIdleTimeout       = 10 * time.Second
	quicKeepAlive         = 3 * time.Second
	idleConnTimeout       = 90 * time.Second
	expectContinueTimeout = time.Second
	maxResponseHeader     = 1 << 20 // bytes
	unsupportedFor        = 10 * time.Minute
)

// An answer that a slow client does not take stays with us, as far as flow control lets
// the upstream send it. The window of each stream bounds that. The one of the connection
// must not: the answers of all clients share it, and one client that takes nothing
// would keep the others from theirs. net/http has the same for HTTP/2.
const (
	initialStreamWindow = 256 << 10 // bytes
	maxStreamWindow     = 1 << 20   // bytes
	connWindow          = 1 << 30   // bytes
)

// quicConfig is QUIC with the windows above, unless it says what they begin with.
func (c *Config) quicConfig() *quic.Config {
	conf := &quic.Config{}
	if c.QUIC != nil {
		conf = c.QUIC.Clone()
	}
	conf.MaxIdleTimeout = cmp.Or(conf.MaxIdleTimeout, quicIdleTimeout)
	conf.KeepAlivePeriod = cmp.Or(conf.KeepAlivePeriod, quicKeepAlive)
	// Else a handshake is given up after quic-go's 5 seconds, whatever DialTimeout says.
	conf.HandshakeIdleTimeout = cmp.Or(conf.HandshakeIdleTimeout, c.DialTimeout, defaultDialTimeout)
	if conf.InitialStreamReceiveWindow != 0 || conf.InitialConnectionReceiveWindow != 0 {
		return conf
	}
	conf.InitialStreamReceiveWindow = initialStreamWindow
	conf.MaxStreamReceiveWindow = cmp.Or(conf.MaxStreamReceiveWindow, maxStreamWindow)
	conf.MaxConnectionReceiveWindow = cmp.Or(conf.MaxConnectionReceiveWindow, connWindow)
	conf.InitialConnectionReceiveWindow = conf.MaxConnectionReceiveWindow
	return conf
}

// newHTTP3 is the way over HTTP/3.
func (c *Config) newHTTP3() *tailfin.Transport {
	return &tailfin.Transport{
		TLSClientConfig:        c.TLS,
		QUICConfig:             c.quicConfig(),
		ListenOptions:          c.ListenOptions,
		Dial:                   c.Dial,
		DialTimeout:            cmp.Or(c.DialTimeout, defaultDialTimeout),
		MaxConnsPerHost:        cmp.Or(c.MaxConns, defaultMaxConns),
		IdleConnTimeout:        idleConnTimeout,
		ResponseHeaderTimeout:  cmp.Or(c.HeaderTimeout, defaultHeaderTimeout),
		ExpectContinueTimeout:  expectContinueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // bodies go through as they are
		RetryIdempotent:        true,
		LearnCloses:            true,
		Logger:                 c.Logger,
	}
}

// newTCP is the way over HTTP/2 and HTTP/1.1.
func (c *Config) newTCP() *http.Transport {
	dialer := &net.Dialer{Timeout: cmp.Or(c.DialTimeout, defaultDialTimeout)}
	conf := c.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.NextProtos = nil // http.Transport sets them
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return &http.Transport{
		// No Proxy: an environment variable must not redirect what clients sent.
		DialContext:            dialer.DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    cmp.Or(c.DialTimeout, defaultDialTimeout),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxConnsPerHost:        cmp.Or(c.MaxConns, defaultMaxConns),
		MaxIdleConnsPerHost:    cmp.Or(c.MaxConns, defaultMaxConns),
		IdleConnTimeout:        idleConnTimeout,
		ResponseHeaderTimeout:  cmp.Or(c.HeaderTimeout, defaultHeaderTimeout),
		ExpectContinueTimeout:  expectContinueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: maxStreamWindow},
	}
}
