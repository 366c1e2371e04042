package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// certmagic v0.25.6 has one for each account and never stops it.
		goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreTopFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).permit"),
		// It sleeps for up to 5 s before it sees that its lock is gone.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}

// A testCA signs certificates.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newTestCA(t testing.TB, name string) *testCA {
	t.Helper()
	key := newKey(t, false)
	now := time.Now()
	cert := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, key.Public(), key)
	return &testCA{cert: cert, key: key}
}

func newKey(t testing.TB, rsaKey bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if rsaKey {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, pub any, by crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (ca *testCA) pem() []byte { return pemOf(blockCertificate, ca.cert.Raw) }

func (ca *testCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// A leaf is a certificate and its key in PEM.
type leaf struct {
	cert, key []byte
	x509      *x509.Certificate
}

func (l leaf) tls(t testing.TB) tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(l.cert, l.key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

type leafOptions struct {
	names  []string
	from   time.Duration // now is zero
	until  time.Duration // zero is a hundred hours
	rsa    bool
	client bool
}

func (ca *testCA) issue(t testing.TB, opts leafOptions) leaf {
	t.Helper()
	key := newKey(t, opts.rsa)
	if opts.until == 0 {
		opts.until = 100 * time.Hour
	}
	usage := x509.ExtKeyUsageServerAuth
	if opts.client {
		usage = x509.ExtKeyUsageClientAuth
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, DNSNames: opts.names,
		NotBefore: time.Now().Add(opts.from - time.Minute), NotAfter: time.Now().Add(opts.until),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	cert := sign(t, template, ca.cert, key.Public(), ca.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf{cert: pemOf(blockCertificate, cert.Raw), key: pemOf("PRIVATE KEY", der), x509: cert}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// pairIn writes l to dir and returns the paths of its files.
func pairIn(t testing.TB, dir, name string, l leaf) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	write(t, cert, l.cert)
	write(t, key, l.key)
	return cert, key
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A logBuffer is a log that tests read.
type logBuffer struct{ peer.Output }

func (l *logBuffer) count(part string) int { return strings.Count(l.String(), part) }

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// servedTo is what a client that names host gets.
func servedTo(t testing.TB, s *Source, host string) *x509.Certificate {
	t.Helper()
	cert, err := s.GetCertificate(&tls.ClientHelloInfo{
		ServerName: host, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256},
		SupportedCurves:  []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}
