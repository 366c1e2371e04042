package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/udp"
)

const answer = "whole"

// serve answers on loopback with the certificates of s until the test ends.
func serve(t *testing.T, s *Source) (addr string) {
	t.Helper()
	return serveWith(t, &tailfin.Server{
		TLSConfig: s.TLSConfig(),
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }),
	})
}

func serveWith(t *testing.T, server *tailfin.Server) (addr string) {
	t.Helper()
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(conn) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, tailfin.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}

// fetch makes a connection of its own, and returns what the server showed. It
// waits for a ticket if conf has a ticketWatch.
func fetch(ctx context.Context, addr string, conf *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tr := &tailfin.Transport{TLSClientConfig: conf, EarlyData: true}
	defer func() { _ = tr.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/", nil)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != answer {
		return tls.ConnectionState{}, fmt.Errorf("answer %q: %w", body, err)
	}
	if sessions, ok := conf.ClientSessionCache.(*ticketWatch); ok {
		select {
		case <-sessions.got: // after an answer to early data it may be late
		case <-ctx.Done():
			return tls.ConnectionState{}, fmt.Errorf("no session ticket: %w", ctx.Err())
		}
	}
	return *resp.TLS, nil
}

func openPair(t *testing.T, opts Options) *Source {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestReloadUnderLoad replaces the certificate 50 times while eight clients
// connect anew all the time: no handshake fails, and both certificates are seen.
func TestReloadUnderLoad(t *testing.T) {
	const clients, reloads, between = 8, 50, 4 // connections from one reload to the next
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir, ca := t.TempDir(), newTestCA(t, "test CA")
	leaves := []leaf{ca.issue(t, leafOptions{names: []string{"a.test"}}), ca.issue(t, leafOptions{names: []string{"a.test"}})}
	certFile, keyFile := pairIn(t, dir, "x", leaves[0])
	s := openPair(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}})
	addr := serve(t, s)

	var seen [2]atomic.Int64
	var failed atomic.Int64
	fetched := make(chan struct{}, clients)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				state, err := fetch(ctx, addr, &tls.Config{RootCAs: ca.pool(), ServerName: "a.test"})
				switch {
				case err != nil:
					failed.Add(1)
					t.Errorf("request: %v", err)
				case state.PeerCertificates[0].Equal(leaves[0].x509):
					seen[0].Add(1)
				case state.PeerCertificates[0].Equal(leaves[1].x509):
					seen[1].Add(1)
				}
				select {
				case fetched <- struct{}{}:
				case <-stop:
					return
				}
			}
		})
	}
	for i := range reloads {
		for range between {
			<-fetched
		}
		pairIn(t, dir, "x", leaves[(i+1)%2])
		if err := s.Reload(ctx); err != nil {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	close(stop)
	wg.Wait()
	if seen[0].Load() == 0 || seen[1].Load() == 0 || failed.Load() != 0 {
		t.Fatalf("%d and %d connections saw the certificates, %d failed", seen[0].Load(), seen[1].Load(), failed.Load())
	}
	t.Logf("%d reloads; %d and %d connections saw the two certificates, none failed", reloads, seen[0].Load(), seen[1].Load())
}

// A ticketWatch is a session cache that says when it has got a ticket.
type ticketWatch struct {
	tls.ClientSessionCache
	got chan struct{}
}

func newTicketWatch() *ticketWatch {
	return &ticketWatch{ClientSessionCache: tls.NewLRUClientSessionCache(4), got: make(chan struct{}, 16)}
}

func (w *ticketWatch) Put(key string, session *tls.ClientSessionState) {
	w.ClientSessionCache.Put(key, session)
	if session != nil {
		select {
		case w.got <- struct{}{}:
		default:
		}
	}
}

// TestTicketsSurviveReload resumes a session over a reload.
func TestTicketsSurviveReload(t *testing.T) {
	dir, ca := t.TempDir(), newTestCA(t, "test CA")
	certFile, keyFile := pairIn(t, dir, "x", ca.issue(t, leafOptions{names: []string{"a.test"}}))
	s := openPair(t, Options{Certs: []string{certFile}, Keys: []string{keyFile}})
	addr := serve(t, s)
	conf := &tls.Config{RootCAs: ca.pool(), ServerName: "a.test", ClientSessionCache: newTicketWatch()}
	if state, err := fetch(t.Context(), addr, conf); err != nil || state.DidResume {
		t.Fatalf("first: resumed %v, %v", state.DidResume, err)
	}
	pairIn(t, dir, "x", ca.issue(t, leafOptions{names: []string{"a.test"}}))
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := fetch(t.Context(), addr, conf); err != nil || !state.DidResume {
		t.Fatalf("after the reload: resumed %v, %v", state.DidResume, err)
	}
}

// TestDevelopment serves a certificate made in memory, to a client that trusts
// the file it was written to.
func TestDevelopment(t *testing.T) {
	out, log := t.TempDir()+"/ca.pem", &logBuffer{}
	s := openPair(t, Options{Hosts: []string{"dev.test"}, CACertOut: out, Log: log.logger()})
	addr := serve(t, s)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		t.Fatalf("%s has no certificate", out)
	}
	var last tls.ConnectionState
	for _, name := range []string{"", "localhost", "dev.test"} { // "" is the loopback address
		if last, err = fetch(t.Context(), addr, &tls.Config{RootCAs: pool, ServerName: name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	info := s.Info()
	if len(info) != 1 || info[0].Source != "development" || !strings.Contains(log.String(), info[0].SHA256) ||
		info[0].SHA256 != describe(last.PeerCertificates[0], "").SHA256 || info[0].NotAfter.Sub(info[0].NotBefore) > 14*24*time.Hour {
		t.Errorf("%+v\n%s", info, log)
	}
	if err := s.Reload(t.Context()); err != nil || s.Info()[0].SHA256 != info[0].SHA256 {
		t.Errorf("a reload makes another certificate, %v", err)
	}
}

// TestDevelopmentEnds: a server that runs for weeks makes a new certificate in
// time, and writes it out.
func TestDevelopmentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := t.TempDir() + "/ca.pem"
		s := openPair(t, Options{CACertOut: out})
		first := servedTo(t, s, "localhost")
		time.Sleep(11 * 24 * time.Hour)
		if !servedTo(t, s, "localhost").Equal(first) {
			t.Fatal("it is replaced too early")
		}
		time.Sleep(2 * 24 * time.Hour)
		second := servedTo(t, s, "localhost")
		if second.Equal(first) || outsideValidity(second, time.Now()) != nil {
			t.Fatalf("%v is served at %v", second.NotAfter, time.Now())
		}
		cert, err := s.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(out); err != nil || string(b) != string(devcert.PEM(*cert)) {
			t.Fatalf("the file has another certificate, %v", err)
		}
	})
}
