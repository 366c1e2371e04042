package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

func TestChooseByName(t *testing.T) {
	dir, ca := t.TempDir(), newTestCA(t, "test CA")
	opts := Options{}
	leaves := map[string]leaf{}
	for _, l := range []struct {
		id   string
		opts leafOptions
	}{
		{"first", leafOptions{names: []string{"first.test"}}},
		{"wild", leafOptions{names: []string{"*.wild.test", "wild.test"}}},
		{"exact", leafOptions{names: []string{"exact.wild.test"}}},
		{"rsa", leafOptions{names: []string{"two.test"}, rsa: true}},
		{"ecdsa", leafOptions{names: []string{"two.test"}}},
	} {
		leaves[l.id] = ca.issue(t, l.opts)
		cert, key := pairIn(t, dir, l.id, leaves[l.id])
		opts.Certs, opts.Keys = append(opts.Certs, cert), append(opts.Keys, key)
	}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for host, want := range map[string]string{
		"first.test": "first", "FIRST.test.": "first", "": "first", "unknown.test": "first",
		"wild.test": "wild", "a.wild.test": "wild", "exact.wild.test": "exact", "A.Wild.TEST": "wild",
		"a.b.wild.test": "first", // a wildcard is for one label, RFC 6125 §6.4.3
		".wild.test":    "first", "two.test": "rsa",
	} {
		if got := servedTo(t, s, host); !got.Equal(leaves[want].x509) {
			t.Errorf("%q gets %v, not %s", host, got.DNSNames, want)
		}
	}
	onlyECDSA := &tls.ClientHelloInfo{
		ServerName: "two.test", SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
	if cert, err := s.GetCertificate(onlyECDSA); err != nil || !cert.Leaf.Equal(leaves["ecdsa"].x509) {
		t.Errorf("a client without RSA gets %v, %v", cert.Leaf.PublicKeyAlgorithm, err)
	}
	infos := s.Info()
	if len(infos) != 5 || !slices.Equal(infos[1].Names, []string{"*.wild.test", "wild.test"}) || infos[1].Issuer != "test CA" ||
		infos[1].Source != opts.Certs[1] || !infos[1].NotAfter.Equal(leaves["wild"].x509.NotAfter) || len(infos[1].SHA256) != 64 {
		t.Errorf("info: %+v", infos)
	}
}

// A watchedPair is a Source of one pair, in a synctest bubble whose clock the
// test moves.
type watchedPair struct {
	*Source
	dir, certFile, keyFile string
	ca                     *testCA
	poll                   time.Duration
	log                    *logBuffer
	reg                    *prometheus.Registry
}

func watchPair(t *testing.T, poll time.Duration, first leafOptions) *watchedPair {
	t.Helper()
	w := &watchedPair{dir: t.TempDir(), poll: poll, ca: newTestCA(t, "test CA"), log: &logBuffer{}, reg: prometheus.NewRegistry()}
	w.certFile, w.keyFile = pairIn(t, w.dir, "x", w.ca.issue(t, first))
	var err error
	w.Source, err = Open(t.Context(), Options{Certs: []string{w.certFile}, Keys: []string{w.keyFile}, Poll: poll, Log: w.log.logger(), Registerer: w.reg})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watchedPair) close(t *testing.T) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// looks lets n looks at the files pass.
func looks(n int, poll time.Duration) {
	time.Sleep(time.Duration(n)*poll + time.Millisecond)
	synctest.Wait()
}

func (w *watchedPair) wantServed(t *testing.T, want *x509.Certificate) {
	t.Helper()
	if got := servedTo(t, w.Source, "a.test"); !got.Equal(want) {
		t.Fatalf("serves serial %x, not %x\n%s", got.SerialNumber, want.SerialNumber, w.log)
	}
}

func (w *watchedPair) wantReloads(t *testing.T, taken, unchanged, refused int) {
	t.Helper()
	for result, want := range map[string]int{resultTaken: taken, resultUnchanged: unchanged, resultRefused: refused} {
		if got := metric(t, w.reg, "tailfin_certificate_reloads_total", "result", result); got != float64(want) {
			t.Errorf("%v reloads %s, not %d\n%s", got, result, want, w.log)
		}
	}
}

func TestReloadByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchPair(t, DefaultPoll, leafOptions{names: []string{"a.test"}})
		defer w.close(t)
		old := servedTo(t, w.Source, "a.test")
		next := w.ca.issue(t, leafOptions{names: []string{"a.test"}})

		write(t, w.certFile, next.cert) // the key is still the old one
		looks(5, w.poll)
		w.wantServed(t, old)
		if n := w.log.count("new certificate refused"); n != 1 {
			t.Fatalf("a pair that does not match was logged %d times in 5 looks\n%s", n, w.log)
		}
		write(t, w.keyFile, next.key)
		looks(1, w.poll)
		w.wantServed(t, old) // it may still be being written
		looks(1, w.poll)
		w.wantServed(t, next.x509)
		w.wantReloads(t, 1, 0, 1)

		third := w.ca.issue(t, leafOptions{names: []string{"a.test"}})
		write(t, w.certFile, third.cert)
		write(t, w.keyFile, third.key)
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantServed(t, third.x509) // who asks says that it is whole
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantReloads(t, 2, 1, 1)
	})
}

// TestFilesGone has files that vanish and return, as with an editor or a copy.
func TestFilesGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchPair(t, DefaultPoll, leafOptions{names: []string{"a.test"}})
		defer w.close(t)
		old := servedTo(t, w.Source, "a.test")
		if err := os.Rename(w.keyFile, w.keyFile+".away"); err != nil {
			t.Fatal(err)
		}
		looks(4, w.poll)
		w.wantServed(t, old)
		if n := w.log.count("no such file"); n != 1 {
			t.Fatalf("a missing file was logged %d times in 4 looks\n%s", n, w.log)
		}
		err := w.Reload(t.Context())
		var optErr *OptionError
		if !errors.As(err, &optErr) || optErr.Option != "key" || optErr.Value != w.keyFile {
			t.Fatalf("reload: %v", err)
		}
		if err := os.Rename(w.keyFile+".away", w.keyFile); err != nil {
			t.Fatal(err)
		}
		looks(2, w.poll)
		w.wantServed(t, old)
		if n := w.log.count("the certificate again that is served"); n != 1 {
			t.Fatalf("the return was logged %d times\n%s", n, w.log)
		}
	})
}

// TestSymlinkSwap replaces a pair as Kubernetes does: the files are links into a
// folder that is itself a link, and that one is renamed over.
func TestSymlinkSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, ca := t.TempDir(), newTestCA(t, "test CA")
		link := func(target, name string) {
			t.Helper()
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		version := func(name string) leaf {
			t.Helper()
			l := ca.issue(t, leafOptions{names: []string{"a.test"}})
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			pairIn(t, filepath.Join(dir, name), "x", l)
			return l
		}
		version("..v1")
		link("..v1", "..data")
		link("..data/x.pem", "x.pem")
		link("..data/x.key", "x.key")
		s, err := Open(t.Context(), Options{Certs: []string{filepath.Join(dir, "x.pem")}, Keys: []string{filepath.Join(dir, "x.key")}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		next := version("..v2")
		link("..v2", "..data_tmp")
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		looks(2, DefaultPoll)
		if got := servedTo(t, s, "a.test"); !got.Equal(next.x509) {
			t.Fatal("the swap was not seen")
		}
	})
}

// TestValidity: a certificate that is not valid now does not replace one that
// is.
func TestValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchPair(t, 10*time.Minute, leafOptions{names: []string{"a.test"}, until: 10 * time.Hour})
		defer w.close(t)
		old := servedTo(t, w.Source, "a.test")

		pairIn(t, w.dir, "x", w.ca.issue(t, leafOptions{names: []string{"a.test"}, from: -2 * time.Hour, until: -time.Hour}))
		if err := w.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "it expired at") {
			t.Fatalf("an expired certificate: %v", err)
		}
		w.wantServed(t, old)

		later := w.ca.issue(t, leafOptions{names: []string{"a.test"}, from: time.Hour})
		pairIn(t, w.dir, "x", later)
		if err := w.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "not valid before") {
			t.Fatalf("a certificate of the future: %v", err)
		}
		w.wantServed(t, old)
		time.Sleep(time.Hour)
		looks(2, w.poll)
		w.wantServed(t, later.x509) // its time has come

		time.Sleep(200 * time.Hour) // it has expired too
		expired := w.ca.issue(t, leafOptions{names: []string{"a.test"}, from: -2 * time.Hour, until: -time.Hour})
		pairIn(t, w.dir, "x", expired)
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantServed(t, expired.x509)
		if n := w.log.count("clients will refuse this certificate"); n != 1 {
			t.Fatalf("%d warnings\n%s", n, w.log)
		}
	})
}

// TestStartExpired: a server starts with an expired certificate, says so, and
// takes a new one.
func TestStartExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchPair(t, DefaultPoll, leafOptions{names: []string{"a.test"}, from: -2 * time.Hour, until: -time.Hour})
		defer w.close(t)
		if n := w.log.count("clients will refuse this certificate"); n != 1 {
			t.Fatalf("%d warnings\n%s", n, w.log)
		}
		next := w.ca.issue(t, leafOptions{names: []string{"a.test"}})
		pairIn(t, w.dir, "x", next)
		looks(2, w.poll)
		w.wantServed(t, next.x509)
	})
}

func TestMetrics(t *testing.T) {
	dir, ca, reg := t.TempDir(), newTestCA(t, "test CA"), prometheus.NewRegistry()
	opts := Options{Registerer: reg}
	cert, key := pairIn(t, dir, "x", ca.issue(t, leafOptions{names: []string{"a.test"}}))
	opts.Certs, opts.Keys = []string{cert}, []string{key}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if _, err := Open(t.Context(), opts); err == nil {
		t.Error("a second Source on one registry is taken")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatalf("after Close the registry is not free: %v", err)
	}
	_ = again.Close()
}

// metric is the value of a counter or gauge with a label.
func metric(t *testing.T, reg *prometheus.Registry, name, label, value string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || slices.ContainsFunc(m.GetLabel(), func(p *dto.LabelPair) bool { return p.GetName() == label && p.GetValue() == value }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s{%s=%q}", name, label, value)
	return 0
}

// BenchmarkLook is what a look at one pair costs that has not changed.
func BenchmarkLook(b *testing.B) {
	certFile, keyFile := pairIn(b, b.TempDir(), "x", newTestCA(b, "CA").issue(b, leafOptions{names: []string{"a.test"}}))
	s, err := Open(b.Context(), Options{Certs: []string{certFile}, Keys: []string{keyFile}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b.ReportAllocs()
	for b.Loop() {
		if err := s.origin.(*files).look(false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChoose is what a handshake waits for.
func BenchmarkChoose(b *testing.B) {
	certFile, keyFile := pairIn(b, b.TempDir(), "x", newTestCA(b, "CA").issue(b, leafOptions{names: []string{"*.a.test"}}))
	s, err := Open(b.Context(), Options{Certs: []string{certFile}, Keys: []string{keyFile}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	hello := &tls.ClientHelloInfo{ServerName: "files.a.test"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.GetCertificate(hello); err != nil {
			b.Fatal(err)
		}
	}
}
