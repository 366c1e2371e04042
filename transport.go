package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"

	"github.com/tailfin-quic/tailfin/udp"
)

// DefaultDialTimeout bounds the making of a connection, name resolution and
// all addresses together.
const DefaultDialTimeout = 10 * time.Second

// maxTries bounds how often a request is sent that provably did not reach a
// peer that would act on it.
const maxTries = 3

// A Transport sends requests over HTTP/3. It is an http.RoundTripper that
// delivers every answer QUIC has received, also from a peer that closes the
// connection right behind it. Its zero value is ready to use; it is safe for
// concurrent use and must not be copied.
//
// Connections are kept and shared, one for each authority. A request is sent
// again by itself only if the peer cannot have acted on it (Progress.RetrySafe)
// and its body can be had again (http.Request.GetBody).
type Transport struct {
	// TLSClientConfig is cloned; the ALPN token and, if empty, ServerName are set.
	TLSClientConfig *tls.Config
	// QUICConfig is used as it is, but for a tracer put before its own.
	QUICConfig *quic.Config
	// ListenOptions are given to udp.Listen for the socket all connections share.
	ListenOptions []udp.Option
	// DialTimeout bounds the making of a connection. Zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// MaxResponseHeaderBytes bounds the field section of a response, counted
	// as RFC 9114 §4.2.2 does. Zero means 1 MiB.
	MaxResponseHeaderBytes int
	// DisableDrain leaves quic-go as it is: received bytes that were not read
	// yet are lost at a close. It is there to show the difference.
	DisableDrain bool
	// DrainTimeout bounds one drain. Zero means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// ReadAhead is how many bytes of each stream are read as they arrive, before
	// anyone asks for them, and so survive any end of the connection, also one that
	// we make since the peer broke QUIC. Each byte is copied once more for it, and
	// flow control lets a peer send as much more. Zero reads nothing ahead.
	ReadAhead int
	// Logger gets violations of HTTP/3 by peers. Nil means slog.Default.
	Logger *slog.Logger

	counters drainCounters

	mu      sync.Mutex
	closed  bool
	socket  *udp.Conn
	quic    *quic.Transport
	guard   *resetGuard
	pool    map[string]*pooledConn
	conns   map[*clientConn]struct{} // all that are open, pooled or not
	dialing context.Context          // ends at Close
	stop    context.CancelFunc
}

var _ http.RoundTripper = (*Transport)(nil)

// A pooledConn is the connection to one authority, or the making of it.
type pooledConn struct {
	made chan struct{} // closed when conn or err is set
	conn *clientConn
	err  error
}

// RoundTrip sends one request and returns its answer once the header section
// has arrived. The context of the request bounds all of it, the body included.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	authority, err := checkRequest(req)
	if err != nil {
		closeRequestBody(req)
		return nil, err
	}
	for try := 1; ; try++ {
		resp, err := t.try(req, authority)
		if err == nil {
			return resp, nil
		}
		progress, _ := ProgressOf(err)
		var dial *DialError
		if !progress.RetrySafe || errors.As(err, &dial) || try == maxTries || req.Context().Err() != nil {
			return nil, err
		}
		if req = rewind(req); req == nil {
			return nil, err
		}
	}
}

// try sends the request once, on the pooled connection or a new one.
func (t *Transport) try(req *http.Request, authority string) (*http.Response, error) {
	conn, err := t.connect(req.Context(), authority)
	if err != nil {
		closeRequestBody(req)
		return nil, err
	}
	return conn.roundTrip(req)
}

// rewind returns req with its body at the start again, nil if that cannot be.
func rewind(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	if req.GetBody == nil {
		return nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil
	}
	again := *req
	again.Body = body
	return &again
}

func closeRequestBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// checkRequest refuses what HTTP/3 cannot carry, and returns host:port.
func checkRequest(req *http.Request) (authority string, err error) {
	if req.URL == nil || req.URL.Host == "" {
		return "", errors.New("tailfin: request without a host; give an absolute https:// URL")
	}
	if req.URL.Scheme != "https" {
		return "", fmt.Errorf("tailfin: scheme %q is not served; HTTP/3 needs https", req.URL.Scheme)
	}
	if req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) {
		return "", fmt.Errorf("tailfin: invalid method %q", req.Method)
	}
	if req.Host != "" && !httpguts.ValidHostHeader(req.Host) {
		return "", fmt.Errorf("tailfin: invalid host %q", req.Host)
	}
	for name, values := range req.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return "", fmt.Errorf("tailfin: invalid header name %q", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return "", fmt.Errorf("tailfin: invalid value of header %q", name)
			}
		}
	}
	return authorityAddr(req.URL)
}

// authorityAddr returns host:port of u, in the form that is dialed.
func authorityAddr(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("tailfin: port %q of %s is not in 1 to 65535", port, u.Host)
	}
	if net.ParseIP(host) == nil {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", fmt.Errorf("tailfin: host name %q: %w", host, err)
		}
		host = ascii
	}
	return net.JoinHostPort(host, port), nil
}

// connect returns the pooled connection to authority, or makes it. Callers
// that come meanwhile wait for the same one.
func (t *Transport) connect(ctx context.Context, authority string) (*clientConn, error) {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, ErrTransportClosed
		}
		p := t.pool[authority]
		if p == nil {
			p = &pooledConn{made: make(chan struct{})}
			if t.pool == nil {
				t.pool = make(map[string]*pooledConn)
			}
			t.pool[authority] = p
			// The dial outlives a caller that gives up: others may wait for it.
			go t.dialPooled(context.WithoutCancel(ctx), authority, p)
		}
		t.mu.Unlock()

		select {
		case <-p.made:
		case <-ctx.Done():
			return nil, &DialError{Progress: Progress{RetrySafe: true}, Addr: authority, Err: context.Cause(ctx)}
		}
		switch {
		case p.err != nil:
			t.unpool(authority, p)
			return nil, p.err
		case p.conn.h3.closing():
			t.unpool(authority, p) // finishes what it carries; new requests go elsewhere
			p.conn.closeWhenIdle()
		default:
			return p.conn, nil
		}
	}
}

func (t *Transport) dialPooled(ctx context.Context, authority string, p *pooledConn) {
	defer close(p.made)
	p.conn, p.err = t.dial(ctx, authority, t.drain())
}

// unpool forgets p if it is still the connection of authority.
func (t *Transport) unpool(authority string, p *pooledConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pool[authority] == p {
		delete(t.pool, authority)
	}
}

// dial makes a connection, trying the addresses of the name in turn.
func (t *Transport) dial(ctx context.Context, authority string, opts drainOptions) (*clientConn, error) {
	timeout := t.DialTimeout
	if timeout <= 0 {
		timeout = DefaultDialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(t.life(), cancel)
	defer stop()
	fail := func(err error) (*clientConn, error) {
		return nil, &DialError{Progress: Progress{RetrySafe: true}, Addr: authority, Err: err}
	}
	tr, err := t.transport()
	if err != nil {
		return fail(err)
	}
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return fail(err)
	}
	addrs, err := resolve(ctx, host, port)
	if err != nil {
		return fail(err)
	}
	quicConf := t.QUICConfig
	if quicConf == nil {
		quicConf = &quic.Config{}
	}
	opts.guard = t.resets()
	var errs []error
	for _, addr := range addrs {
		qc, err := tr.Dial(ctx, addr, t.tlsConfig(host), opts.install(quicConf))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
			continue
		}
		c := newClientConn(t, qc, opts)
		t.keep(c)
		return c, nil
	}
	return fail(errors.Join(errs...))
}

// resets is the guard of the socket, once there is one.
func (t *Transport) resets() *resetGuard {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.guard
}

// life is a context that ends at Close.
func (t *Transport) life() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dialing == nil {
		t.dialing, t.stop = context.WithCancel(context.Background())
		if t.closed {
			t.stop()
		}
	}
	return t.dialing
}

// keep remembers c until it is over, so that Close can end it properly. One
// that comes after Close is closed at once.
func (t *Transport) keep(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		go c.close()
		return
	}
	if t.conns == nil {
		t.conns = make(map[*clientConn]struct{})
	}
	t.conns[c] = struct{}{}
	context.AfterFunc(c.h3.quic.Context(), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, c)
	})
}

// resolve returns the UDP addresses of a host in the resolver's order.
func resolve(ctx context.Context, host, port string) ([]*net.UDPAddr, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	addrs := make([]*net.UDPAddr, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, &net.UDPAddr{IP: ip.Unmap().AsSlice(), Port: int(n), Zone: ip.Zone()})
	}
	return addrs, nil
}

func (t *Transport) tlsConfig(host string) *tls.Config {
	conf := t.TLSClientConfig.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.NextProtos = []string{NextProto}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	return conf
}

// transport returns the quic.Transport of all connections, made at first use.
func (t *Transport) transport() (*quic.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrTransportClosed
	}
	if t.quic == nil {
		socket, err := udp.Listen("udp", ":0", t.ListenOptions...)
		if err != nil {
			return nil, err
		}
		t.socket, t.quic = socket, &quic.Transport{Conn: socket}
		t.guard = guardResets(socket)
	}
	return t.quic, nil
}

// DrainStats says what the drain barrier has done since the transport was made.
func (t *Transport) DrainStats() DrainStats { return t.counters.snapshot() }

func (t *Transport) drain() drainOptions {
	return drainOptions{disabled: t.DisableDrain, timeout: t.DrainTimeout, readAhead: t.ReadAhead, counters: &t.counters}
}

func (t *Transport) logger() *slog.Logger {
	if t.Logger != nil {
		return t.Logger
	}
	return slog.Default()
}

func (t *Transport) maxHeaderBytes() int {
	if t.MaxResponseHeaderBytes > 0 {
		return t.MaxResponseHeaderBytes
	}
	return defaultMaxHeaderBytes
}

// CloseIdleConnections closes the connections that carry no request. It is
// what http.Client.CloseIdleConnections calls.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	pool := t.pool
	t.pool = nil
	t.mu.Unlock()
	for _, p := range pool {
		go func() {
			if <-p.made; p.conn != nil {
				p.conn.closeWhenIdle()
			}
		}()
	}
}

// Close closes every connection with H3_NO_ERROR and the socket. Requests at
// work fail; later ones return ErrTransportClosed.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	if t.stop != nil {
		t.stop()
	}
	conns := slices.Collect(maps.Keys(t.conns))
	socket, tr := t.socket, t.quic
	t.pool = nil
	t.mu.Unlock()

	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { c.close() })
	}
	wg.Wait()
	if tr == nil {
		return nil
	}
	err := tr.Close()
	if cerr := socket.Close(); err == nil {
		err = cerr
	}
	return err
}

// Backend returns how the transport's socket is read, udp.Auto before the
// first connection.
func (t *Transport) Backend() udp.Backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.socket == nil {
		return udp.Auto
	}
	return t.socket.Backend()
}
