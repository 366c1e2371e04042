package soak

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

const (
	// requestTimeout bounds a request, through all faults. Slow ones take half of it.
	requestTimeout = 80 * time.Second
	// storeTimeout is how long a server may take to store what a client has left behind.
	storeTimeout = 20 * time.Second

	idleTimeout      = 30 * time.Second
	keepAlive        = 5 * time.Second // so that a NAT which has forgotten learns anew
	handshakeTimeout = 20 * time.Second
)

func quicConfig() *quic.Config {
	return &quic.Config{MaxIdleTimeout: idleTimeout, KeepAlivePeriod: keepAlive, HandshakeIdleTimeout: handshakeTimeout}
}

// anyCert is for a certificate that is renewed while the load is on.
func anyCert() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a link of this machine, and certificates made for this run
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{tailfin.NextProto},
	}
}

// transport is our client. What idles most of its time does without rings.
func (l *load) transport(options ...udp.Option) *tailfin.Transport {
	return &tailfin.Transport{
		TLSClientConfig: anyCert(), QUICConfig: quicConfig(), ListenOptions: options,
		DialTimeout: requestTimeout / 2, DisableCompression: true,
	}
}

// foreign is another client.
func (l *load) foreign() *http3.Transport {
	return &http3.Transport{TLSClientConfig: anyCert(), QUICConfig: quicConfig(), DisableCompression: true}
}

// A closer is a client.
type closer interface {
	http.RoundTripper
	io.Closer
}

func (l *load) url(path string) string { return "https://" + l.Addr + path }

// request makes one with a content as its body, or without.
func (l *load) request(ctx context.Context, method, path string, body *content) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.url(path), nil)
	if err != nil || body == nil {
		return req, err
	}
	req.ContentLength = body.size
	if body.size > 0 {
		req.Body = body.from(0)
		req.GetBody = func() (io.ReadCloser, error) { return body.from(0), nil }
	}
	return req, nil
}

// A statusError is an answer that was not to be expected.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.text) }

// answered makes a request, and has its answer read, which must have a status.
func answered(tr http.RoundTripper, req *http.Request, status int, read func(resp *http.Response) error) error {
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != status {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return &statusError{resp.StatusCode, string(text)}
	}
	return read(resp)
}

// again calls once, and again if the server cannot have acted on it, as a client does that
// was refused while a server is flooded, or is replaced.
func (l *load) again(kind string, once func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	const tries = 6
	for try := 1; ; try++ {
		err := once(ctx)
		if err == nil || !untouched(err) || try == tries || ctx.Err() != nil {
			return err
		}
		l.add(kind, Tally{Again: 1})
		time.Sleep(time.Duration(try) * 200 * time.Millisecond)
	}
}

// untouched tells that the server cannot have acted on a request that failed.
func untouched(err error) bool {
	if p, ours := tailfin.ProgressOf(err); ours {
		return p.RetrySafe
	}
	var refused *quic.TransportError
	return errors.As(err, &refused) && refused.Remote && refused.ErrorCode == quic.ConnectionRefused
}

// get fetches /bytes/N, and compares.
func (l *load) get(kind string, tr http.RoundTripper, n int64, pause func()) {
	begin := time.Now()
	path := fmt.Sprintf("/bytes/%d", n)
	err := l.again(kind, func(ctx context.Context) error {
		req, err := l.request(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		return answered(tr, req, http.StatusOK, func(resp *http.Response) error {
			_, err := compareBody(resp.Body, n, pattern, pause)
			return err
		})
	})
	if err != nil {
		l.failed(kind, begin, "GET "+path, err)
		return
	}
	l.done(kind, n)
}

// echo has a content come back.
func (l *load) echo(kind string, tr http.RoundTripper, c content) {
	begin := time.Now()
	err := l.again(kind, func(ctx context.Context) error {
		req, err := l.request(ctx, http.MethodPost, "/echo", &c)
		if err != nil {
			return err
		}
		return answered(tr, req, http.StatusOK, func(resp *http.Response) error {
			_, err := compareBody(resp.Body, c.size, c.fill, nil)
			return err
		})
	})
	if err != nil {
		l.failed(kind, begin, "POST /echo", err)
		return
	}
	l.done(kind, 2*c.size)
}

// put uploads a content, and tells whether it is stored.
func (l *load) put(kind string, tr http.RoundTripper, name string, c content) bool {
	begin := time.Now()
	err := l.again(kind, func(ctx context.Context) error {
		req, err := l.request(ctx, http.MethodPut, "/"+name, &c)
		if err != nil {
			return err
		}
		return answered(tr, req, http.StatusCreated, func(resp *http.Response) error { return receipt(resp, c) })
	})
	if err != nil {
		l.doubt(kind, name, c)
		l.failed(kind, begin, "PUT /"+name, err)
		return false
	}
	return true
}

// receipt holds what a server says to have stored against what was sent.
func receipt(resp *http.Response, c content) error {
	var r struct {
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&r); err != nil {
		return err
	}
	if sum := c.sum(); r.SHA256 != sum || r.Bytes != c.size {
		return fmt.Errorf("%w: %d bytes with SHA-256 %s are said to be stored, and %d with %s were sent", errCorrupt, r.Bytes, r.SHA256, c.size, sum)
	}
	return nil
}

// stored holds what is stored by a name against what was sent, and takes it. It was
// answered 201, so that nothing excuses that it is not there.
func (l *load) stored(kind, name string, c content) {
	switch err := compareFile(l.path(name), c); {
	case err == nil:
		l.done(kind, c.size)
	case errors.Is(err, errCorrupt):
		l.add(kind, Tally{Corrupt: 1})
		l.trouble("%s: stored %s: %v", kind, name, err)
	default:
		l.add(kind, Tally{Lost: 1})
		l.trouble("%s: %s was answered 201: %v", kind, name, err)
	}
}

// on104 has f called with the header of a 104 (Upload Resumption Supported).
func on104(ctx context.Context, f func(h textproto.MIMEHeader)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == statusResumption {
			f(h)
		}
		return nil
	}})
}
