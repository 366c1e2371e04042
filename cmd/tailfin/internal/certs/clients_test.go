package certs

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

// TestClientCertificates asks clients for certificates of a CA, and takes the
// CA away from them while the server runs.
func TestClientCertificates(t *testing.T) {
	dir, ca := t.TempDir(), newTestCA(t, "server CA")
	mine, theirs := newTestCA(t, "client CA"), newTestCA(t, "other CA")
	certFile, keyFile := pairIn(t, dir, "x", ca.issue(t, leafOptions{names: []string{"a.test"}}))
	clientCA := certFile + ".clients"
	client := func(l leaf) *tls.Config {
		conf := &tls.Config{RootCAs: ca.pool(), ServerName: "a.test"}
		if l.cert != nil {
			conf.Certificates = []tls.Certificate{l.tls(t)}
		}
		return conf
	}
	good, foreign := mine.issue(t, leafOptions{client: true}), theirs.issue(t, leafOptions{client: true})
	expired := mine.issue(t, leafOptions{client: true, from: -2 * time.Hour, until: -time.Hour})
	notClient := mine.issue(t, leafOptions{names: []string{"a.test"}})
	for _, tc := range []struct {
		auth string
		leaf leaf
		ok   bool
	}{
		{"", good, true},
		{RequireClient, good, true},
		{RequireClient, leaf{}, false},
		{RequireClient, foreign, false},
		{RequireClient, expired, false},
		{RequireClient, notClient, false},
		{RequestClient, good, true},
		{RequestClient, leaf{}, true},
		{RequestClient, foreign, false},
	} {
		write(t, clientCA, mine.pem())
		reg := prometheus.NewRegistry()
		s := openPair(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}, ClientCA: clientCA, ClientAuth: tc.auth, Registerer: reg})
		addr := serve(t, s)
		_, err := fetch(t.Context(), addr, client(tc.leaf))
		if (err == nil) != tc.ok {
			t.Errorf("%q: %v", tc.auth, err)
		}
		// 0x174 is the alert certificate_required (RFC 8446 §6.2, RFC 9001 §4.8).
		if tc.leaf.cert == nil && !tc.ok && !strings.Contains(err.Error(), "0x174") {
			t.Errorf("a client without a certificate is told %v", err)
		}
		if refused := metric(t, reg, "tailfin_certificate_client_refusals_total", "", ""); (refused != 0) != (!tc.ok && tc.leaf.cert != nil) {
			t.Errorf("%q: %v refusals are counted", tc.auth, refused)
		}
	}

	log := &logBuffer{}
	s := openPair(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}, ClientCA: clientCA, Log: log.logger()})
	addr := serve(t, s)
	conf := client(good)
	conf.ClientSessionCache = newTicketWatch()
	if _, err := fetch(t.Context(), addr, conf); err != nil {
		t.Fatal(err)
	}
	if state, err := fetch(t.Context(), addr, conf); err != nil || !state.DidResume {
		t.Fatalf("resumed %v, %v", state.DidResume, err)
	}
	write(t, clientCA, []byte("nonsense"))
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "client-ca") {
		t.Fatalf("nonsense: %v", err)
	}
	if _, err := fetch(t.Context(), addr, conf); err != nil {
		t.Fatalf("after a reload that was refused: %v", err)
	}
	write(t, clientCA, theirs.pem())
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := fetch(t.Context(), addr, conf); err == nil {
		t.Fatalf("a client of the CA that was taken away is served, resumed %v", state.DidResume)
	}
	if _, err := fetch(t.Context(), addr, client(foreign)); err != nil {
		t.Fatalf("a client of the new CA: %v", err)
	}
	if log.count("new client CAs refused") != 1 || log.count("client CAs replaced") != 1 {
		t.Errorf("log:\n%s", log)
	}
}

type connKey struct{}

// TestEarlyDataOfRefusedClient: a client whose CA was taken away resumes with a
// request in 0-RTT, and no handler sees it.
func TestEarlyDataOfRefusedClient(t *testing.T) {
	dir, ca, mine := t.TempDir(), newTestCA(t, "server CA"), newTestCA(t, "client CA")
	certFile, keyFile := pairIn(t, dir, "x", ca.issue(t, leafOptions{names: []string{"a.test"}}))
	clientCA := certFile + ".clients"
	write(t, clientCA, mine.pem())
	s := openPair(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}, ClientCA: clientCA})
	var requests, early atomic.Int64
	addr := serveWith(t, &tailfin.Server{
		TLSConfig:  s.TLSConfig(),
		QUICConfig: &quic.Config{Allow0RTT: true},
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			if r.Context().Value(connKey{}).(*quic.Conn).ConnectionState().Used0RTT {
				early.Add(1)
			}
			if len(r.TLS.PeerCertificates) == 0 {
				t.Error("the handler sees no certificate of the client")
			}
			_, _ = io.WriteString(w, answer)
		}),
	})
	conf := &tls.Config{RootCAs: ca.pool(), ServerName: "a.test", ClientSessionCache: newTicketWatch(), Certificates: []tls.Certificate{mine.issue(t, leafOptions{client: true}).tls(t)}}
	for range 2 {
		if _, err := fetch(t.Context(), addr, conf); err != nil {
			t.Fatal(err)
		}
	}
	if early.Load() != 1 {
		t.Fatalf("%d requests of 2 came early", early.Load())
	}
	write(t, clientCA, newTestCA(t, "other CA").pem())
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), addr, conf); err == nil {
		t.Error("it is served")
	}
	if requests.Load() != 2 {
		t.Errorf("a handler has seen %d requests of 2", requests.Load())
	}
}

func TestBadClientCA(t *testing.T) {
	file := t.TempDir() + "/ca.pem"
	l := newTestCA(t, "CA").issue(t, leafOptions{})
	write(t, file, l.key)
	wantOptionError(t, Options{ClientCA: file}, "client-ca", file, "it has PRIVATE KEY", "certificates of the CAs in PEM")
	write(t, file, l.cert)
	wantOptionError(t, Options{ClientCA: file, ClientAuth: "maybe"}, "client-auth", "maybe", "give require, or request")
}
