package receiver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/udp"
)

// quicServer serves h over QUIC, as the daemon does, until the test ends.
func quicServer(t *testing.T, h http.Handler, options ...func(*tailfin.Server)) (url string, roots *x509.CertPool) {
	t.Helper()
	cert, err := devcert.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	server := &tailfin.Server{
		Handler:   accesslog.New(log, nil).Handler(h),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		Logger:    log,
	}
	for _, o := range options {
		o(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(conn) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = conn.Close()
	})
	roots = x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return "https://" + conn.LocalAddr().(*net.UDPAddr).String(), roots
}

func quicClient(t *testing.T, roots *x509.CertPool) *tailfin.Transport {
	t.Helper()
	tr := &tailfin.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, Logger: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// answer is a response that was read.
type answer struct {
	code    int
	header  http.Header
	body    string
	interim []http.Header // of each 104
}

// request sends one and reads its answer.
func request(t *testing.T, tr *tailfin.Transport, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	a, err := tryRequest(t.Context(), tr, method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryRequest(ctx context.Context, tr *tailfin.Transport, method, url string, body io.Reader, header ...string) (a answer, err error) {
	var mu sync.Mutex
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		if code == statusUploadResumptionSupported {
			a.interim = append(a.interim, http.Header(h))
		}
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return a, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	mu.Lock()
	defer mu.Unlock()
	a.code, a.header, a.body = resp.StatusCode, resp.Header, string(b)
	return a, err
}

// cutBody delivers what it has, tells so, and waits until the connection is cut.
type cutBody struct {
	io.Reader
	sent chan struct{}
	once sync.Once
	cut  chan struct{}
}

func newCutBody(b []byte) *cutBody {
	return &cutBody{Reader: bytes.NewReader(b), sent: make(chan struct{}), cut: make(chan struct{})}
}

func (b *cutBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.once.Do(func() { close(b.sent) })
		<-b.cut
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// TestRangeGet goes on with a download where it was cut off, and starts again if
// something else is stored meanwhile.
func TestRangeGet(t *testing.T) {
	h := newHandler(t)
	url, roots := quicServer(t, h)
	tr := quicClient(t, roots)
	request(t, tr, http.MethodPut, url+"/report", strings.NewReader("0123456789"))
	first := request(t, tr, http.MethodGet, url+"/report", nil)
	tag := first.header.Get("ETag")
	if first.code != http.StatusOK || tag == "" || first.header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("%+v", first)
	}
	if a := request(t, tr, http.MethodGet, url+"/report", nil, "Range", "bytes=4-", "If-Range", tag); a.code != http.StatusPartialContent || a.body != "456789" {
		t.Fatalf("%+v", a)
	}
	if a := request(t, tr, http.MethodGet, url+"/report", nil, "If-None-Match", tag); a.code != http.StatusNotModified {
		t.Fatalf("%+v", a)
	}
	request(t, tr, http.MethodPut, url+"/report", strings.NewReader("9876543210"))
	if a := request(t, tr, http.MethodGet, url+"/report", nil, "Range", "bytes=4-", "If-Range", tag); a.code != http.StatusOK || a.body != "9876543210" {
		t.Fatalf("%+v", a)
	}
}
