package tailfin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin/udp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCert is a certificate for loopback, made once.
var testCert = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:     []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
})

func cert(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := testCert()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serverTLS(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert(t)}, NextProtos: []string{NextProto}}
}

func clientTLS(t testing.TB) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(cert(t).Leaf)
	return &tls.Config{RootCAs: pool, NextProtos: []string{NextProto}}
}

var quietLog = slog.New(slog.DiscardHandler)

// startServer serves on loopback until the test ends, and returns the address.
func startServer(t testing.TB, s *Server, opts ...udp.Option) string {
	t.Helper()
	return startServerOn(t, "127.0.0.1:0", s, opts...)
}

// startServerOn is startServer on another address.
func startServerOn(t testing.TB, addr string, s *Server, opts ...udp.Option) string {
	t.Helper()
	conn, err := udp.Listen("udp", addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if s.TLSConfig == nil {
		s.TLSConfig = serverTLS(t)
	}
	if s.Logger == nil {
		s.Logger = quietLog
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}

// newTransport returns a client that is closed when the test ends.
func newTransport(t testing.TB, tr *Transport) *Transport {
	t.Helper()
	if tr.TLSClientConfig == nil {
		tr.TLSClientConfig = clientTLS(t)
	}
	if tr.Logger == nil {
		tr.Logger = quietLog
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func client(t testing.TB, tr *Transport) *http.Client {
	return &http.Client{Transport: newTransport(t, tr), Timeout: 30 * time.Second}
}
