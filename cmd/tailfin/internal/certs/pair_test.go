package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestBadPair has what an operator gets wrong: the error names the option, the
// file, the cause and the remedy.
func TestBadPair(t *testing.T) {
	ca := newTestCA(t, "test CA")
	good, other := ca.issue(t, leafOptions{names: []string{"a.test"}}), ca.issue(t, leafOptions{names: []string{"b.test"}})
	block, _ := pem.Decode(good.key)
	encrypted := pemOf("ENCRYPTED PRIVATE KEY", block.Bytes)
	older := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: block.Bytes, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})
	cut := slices.Concat(good.cert, ca.pem()[:len(ca.pem())/2])
	damaged := slices.Concat(bytes.Replace(good.cert, []byte("M"), []byte("!"), 1), ca.pem())
	for _, tc := range []struct {
		name      string
		cert, key []byte
		option    string
		want      []string
	}{
		{"exchanged", good.key, good.cert, "cert", []string{"it has PRIVATE KEY, and no CERTIFICATE", "exchanged"}},
		{"key is a certificate", good.cert, good.cert, "key", []string{"it has CERTIFICATE, and no PRIVATE KEY"}},
		{"other key", good.cert, other.key, "key", []string{"not the key of", "openssl"}},
		{"encrypted key", good.cert, encrypted, "key", []string{"the key is encrypted", "openssl pkey"}},
		{"encrypted key, old form", good.cert, older, "key", []string{"the key is encrypted"}},
		{"DER", good.x509.Raw, good.key, "cert", []string{"DER", "openssl x509 -inform der"}},
		{"no PEM", []byte("hello\n"), good.key, "cert", []string{"not PEM"}},
		{"empty", []byte("\n"), good.key, "cert", []string{"empty"}},
		{"cut chain", cut, good.key, "cert", []string{"1 of its 2 PEM blocks", "copy it again"}},
		{"damaged block before a good one", damaged, good.key, "cert", []string{"1 of its 2 PEM blocks"}},
		{"no certificate in the block", pemOf(blockCertificate, []byte("nonsense")), good.key, "cert", []string{"certificate 1 in it"}},
		{"no key in the block", good.cert, pemOf("PRIVATE KEY", []byte("nonsense")), "key", []string{"RSA, ECDSA or Ed25519"}},
		{"CA first", slices.Concat(ca.pem(), good.cert), good.key, "cert", []string{"certificate 2 in it", "own certificate first"}},
		{"too long", bytes.Repeat(good.cert, maxFile/len(good.cert)+1), good.key, "cert", []string{"longer than"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			certFile, keyFile := pairIn(t, t.TempDir(), "x", leaf{cert: tc.cert, key: tc.key})
			if Check(Options{Certs: []string{certFile}, Keys: []string{keyFile}}) == nil {
				t.Error("Check finds nothing")
			}
			wantOptionError(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}}, tc.option,
				map[string]string{"cert": certFile, "key": keyFile}[tc.option], tc.want...)
		})
	}
}

// TestGoodPair has what is unusual and right.
func TestGoodPair(t *testing.T) {
	ca := newTestCA(t, "test CA")
	ec, rsaLeaf := ca.issue(t, leafOptions{names: []string{"a.test"}}), ca.issue(t, leafOptions{names: []string{"a.test"}, rsa: true})
	both := slices.Concat(pemOf("EC PARAMETERS", []byte{6, 8}), ec.key, ec.cert, ca.pem())
	block, _ := pem.Decode(ec.key)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]leaf{
		"one file for both": {cert: both, key: both},
		"text before it":    {cert: slices.Concat([]byte("subject=test\n"), ec.cert), key: ec.key},
		"RSA":               rsaLeaf,
		"SEC 1":             {cert: ec.cert, key: pemOf("EC PRIVATE KEY", sec1)},
	} {
		t.Run(name, func(t *testing.T) {
			certFile, keyFile := pairIn(t, t.TempDir(), "x", l)
			s, err := Open(t.Context(), Options{Certs: []string{certFile}, Keys: []string{keyFile}})
			if err != nil {
				t.Fatal(err)
			}
			if got := servedTo(t, s, "a.test").DNSNames; !slices.Equal(got, []string{"a.test"}) {
				t.Fatalf("serves %v", got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	l := newTestCA(t, "test CA").issue(t, leafOptions{names: []string{"a.test"}})
	certFile, keyFile := pairIn(t, dir, "x", l)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wantOptionError(t, Options{Certs: []string{dir}, Keys: []string{keyFile}}, "cert", dir, "not a regular file")
	wantOptionError(t, Options{Certs: []string{pipe}, Keys: []string{keyFile}}, "cert", pipe, "not a regular file")
	gone := filepath.Join(dir, "gone.pem")
	wantOptionError(t, Options{Certs: []string{gone}, Keys: []string{keyFile}}, "cert", gone, "no such file", "name a PEM file")
	if os.Geteuid() == 0 {
		return // root may read everything
	}
	if err := os.Chmod(keyFile, 0); err != nil {
		t.Fatal(err)
	}
	wantOptionError(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}}, "key", keyFile, "permission denied", "LoadCredential")
}

func TestOptionsTogether(t *testing.T) {
	acme := ACME{Domains: []string{"a.test"}}
	for _, tc := range []struct {
		opts   Options
		option string
		value  string
		want   string
	}{
		{Options{Certs: []string{"c"}}, "cert", "c", "--key is missing"},
		{Options{Keys: []string{"k"}}, "key", "k", "--cert is missing"},
		{Options{Certs: []string{"c", "d"}, Keys: []string{"k"}}, "cert", "d", "more --cert than --key"},
		{Options{Certs: []string{"c"}, Keys: []string{"k", "l"}}, "key", "l", "more --key than --cert"},
		{Options{Certs: []string{"c"}, Keys: []string{"k"}, CACertOut: "o"}, "cacert-out", "o", "leave one of the two out"},
		{Options{Certs: []string{"c"}, Keys: []string{"k"}, ACME: acme}, "acme-domain", "a.test", "leave one of the two out"},
		{Options{ACME: acme, CACertOut: "o"}, "cacert-out", "o", "leave one of the two out"},
		{Options{ClientAuth: RequireClient}, "client-auth", "require", "--client-ca is missing"},
		{Options{ACME: ACME{CA: LetsEncryptStaging}}, "acme-ca", LetsEncryptStaging, "--acme-domain is missing"},
		{Options{CACertOut: "/nonexistent/ca.pem"}, "cacert-out", "/nonexistent/ca.pem", "no such file"},
	} {
		wantOptionError(t, tc.opts, tc.option, tc.value, tc.want)
	}
}

func wantOptionError(t *testing.T, opts Options, option, value string, parts ...string) {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err == nil {
		_ = s.Close()
		t.Fatalf("%+v is taken", opts)
	}
	if checked := Check(opts); checked != nil && checked.Error() != err.Error() {
		t.Errorf("Check says %q, and Open %q", checked, err)
	}
	var optErr *OptionError
	if !errors.As(err, &optErr) {
		t.Fatalf("%v is a %T, not an OptionError", err, err)
	}
	if optErr.Option != option || optErr.Value != value || optErr.Remedy == "" {
		t.Errorf("%q names %s %q with remedy %q, not %s %q", err, optErr.Option, optErr.Value, optErr.Remedy, option, value)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}
