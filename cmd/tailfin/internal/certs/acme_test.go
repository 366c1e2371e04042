package certs

import (
	"bytes"
	"encoding/base64"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
)

// TestBadACMEOptions has what an operator gets wrong before a CA is asked.
func TestBadACMEOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, []byte("hello"))
	good := func(change func(*ACME)) ACME {
		a := ACME{Domains: []string{"a.test"}, AgreeTerms: true, CA: "https://127.0.0.1:1/dir", Storage: dir, Listen: "127.0.0.1:" + freePort(t)}
		change(&a)
		return a
	}
	for _, tc := range []struct {
		change        func(*ACME)
		option, value string
		want          string
	}{
		{func(a *ACME) { a.AgreeTerms = false }, "acme-agree-terms", "", "letsencrypt.org/repository"},
		{func(a *ACME) { a.Domains = []string{"*.a.test"} }, "acme-domain", "*.a.test", "dns-01"},
		{func(a *ACME) { a.Domains = []string{"a.test:443"} }, "acme-domain", "a.test:443", "files.example.com"},
		{func(a *ACME) { a.Domains = []string{"https://a.test/"} }, "acme-domain", "https://a.test/", "not the name of a host"},
		{func(a *ACME) { a.CA = "http://ca.test/" }, "acme-ca", "http://ca.test/", "not an https URL"},
		{func(a *ACME) { a.CA = "::" }, "acme-ca", "::", "letsencrypt-staging"},
		{func(a *ACME) { a.CARoot = file }, "acme-ca-root", file, "not PEM"},
		{func(a *ACME) { a.CARoot = file + "x" }, "acme-ca-root", file + "x", "no such file"},
		{func(a *ACME) { a.Email = "nobody" }, "acme-email", "nobody", "not a mail address"},
		{func(a *ACME) { a.EABKeyID = "id" }, "acme-eab-key-id", "id", "--acme-eab-hmac is missing"},
		{func(a *ACME) { a.EABHMAC = "secret" }, "acme-eab-hmac", "", "--acme-eab-key-id is missing"},
		{func(a *ACME) { a.EABKeyID, a.EABHMAC = "id", "s e" }, "acme-eab-hmac", "", "not base64url"},
		{func(a *ACME) { a.Storage = filepath.Join(file, "x") }, "acme-storage", filepath.Join(file, "x"), "a folder that you may write"},
		{func(a *ACME) { a.Challenge = "dns-01" }, "acme-challenge", "dns-01", "http-01 or tls-alpn-01"},
		{func(a *ACME) { a.Listen = "nonsense" }, "acme-listen", "nonsense", "HOST:PORT for TCP, for example :80"},
		{func(a *ACME) { a.Listen = "127.0.0.1:0" }, "acme-listen", "127.0.0.1:0", "no port"},
		{func(a *ACME) { a.Listen = "192.0.2.1:8080" }, "acme-listen", "192.0.2.1:8080", "HOST:PORT"},
	} {
		wantOptionError(t, Options{ACME: good(tc.change)}, tc.option, tc.value, tc.want)
	}
}

func TestACMEStorageDefault(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ state, xdg, home, want string }{
		{dir + "/state:" + dir + "/other", dir + "/xdg", dir, dir + "/state/acme"},
		{"", dir + "/xdg", dir, dir + "/xdg/tailfin/acme"},
		{"", "", dir + "/home", dir + "/home/.local/state/tailfin/acme"},
	} {
		t.Setenv("STATE_DIRECTORY", tc.state)
		t.Setenv("XDG_STATE_HOME", tc.xdg)
		t.Setenv("HOME", tc.home)
		a := ACME{Domains: []string{"A.Test."}, AgreeTerms: true, Listen: "127.0.0.1:" + freePort(t), EABKeyID: "id", EABHMAC: base64.URLEncoding.EncodeToString([]byte("a key!!"))}
		if err := Check(Options{ACME: a}); err != nil {
			t.Fatal(err)
		}
		s, err := a.setup()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.Storage); err == nil {
			t.Errorf("a check has made %s", s.Storage)
		}
		if err := s.prepare(slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(s.Storage); s.Storage != tc.want || err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("stores in %s (%v), not %s", s.Storage, err, tc.want)
		}
		if s.Domains[0] != "a.test" || !strings.Contains(s.CA, "acme-v02.api.letsencrypt.org") || s.Challenge != HTTP01 {
			t.Errorf("defaults: %+v", s)
		}
	}
	t.Setenv("HOME", "")
	t.Setenv("XDG_STATE_HOME", "")
	wantOptionError(t, Options{ACME: ACME{Domains: []string{"a.test"}, AgreeTerms: true}}, "acme-storage", "", "outlives the process")
}

// nextPort is above the ports of services and below those that the system gives
// to clients, where a port that was free is taken by another soon.
var nextPort = func() *atomic.Int32 {
	var n atomic.Int32
	n.Store(15000 + rand.Int32N(10000))
	return &n
}()

// freePort is a TCP and UDP port of the loopback address that nobody has, and
// that no other call of it returns.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(int(nextPort.Add(1)))
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		_ = ln.Close()
		if conn, err := net.ListenPacket("udp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// TestZapToSlog has zap's ways of saying things come out as slog's.
func TestZapToSlog(t *testing.T) {
	var buf bytes.Buffer
	level := &slog.LevelVar{}
	handler := slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	var quiet atomic.Bool
	log := zap.New(&slogCore{handler, &quiet})
	level.Set(slog.LevelDebug)
	log.Named("obtain").With(zap.String("name", "a.test")).Info("lock acquired", zap.Int("n", 3), zap.Strings("names", []string{"a", "b"}))
	log.Warn("retrying", zap.Error(io.ErrUnexpectedEOF))
	log.With(zap.Namespace("outer"), zap.Bool("in", true)).Error("failed", zap.Namespace("inner"), zap.Duration("after", 1e9))
	level.Set(slog.LevelWarn)
	log.Info("not to be seen")
	quiet.Store(true)
	log.Error("not to be seen")
	log.With(zap.Int("n", 1)).Warn("not to be seen")
	want := `level=DEBUG msg="lock acquired" name=a.test logger=obtain n=3 names="[a b]"
level=WARN msg=retrying error="unexpected EOF"
level=ERROR msg=failed outer.in=true outer.inner.after=1s
`
	if got := buf.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := log.Sync(); err != nil {
		t.Error(err)
	}
}
