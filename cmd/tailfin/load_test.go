package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A load uploads to a daemon and downloads from it until it is stopped.
type load struct {
	addr  string // of the daemon
	fresh bool   // each request on a connection of its own
	// patient clients go on with a handshake that a flood holds up for long. Others notice
	// soon that the daemon is gone.
	patient bool

	stop  context.CancelFunc
	wg    sync.WaitGroup
	calls atomic.Int64

	mu     sync.Mutex
	stored map[string]string // name to SHA-256 of what was answered 201
	certs  map[string]int    // connections by serial number of the server's certificate
	errs   []error
}

// startLoad begins with some clients. Each waits for one answer before it asks again.
func startLoad(t *testing.T, addr string, clients int, fresh bool) *load {
	t.Helper()
	return (&load{addr: addr, fresh: fresh}).start(t, clients)
}

// startPatientLoad is startLoad with clients that are patient.
func startPatientLoad(t *testing.T, addr string, clients int, fresh bool) *load {
	t.Helper()
	return (&load{addr: addr, fresh: fresh, patient: true}).start(t, clients)
}

func (l *load) start(t *testing.T, clients int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l.stop, l.stored, l.certs = stop, make(map[string]string), make(map[string]int)
	for i := range clients {
		l.wg.Go(func() { l.client(ctx, i) })
	}
	t.Cleanup(func() { l.end() })
	return l
}

// end stops the clients; requests at work are finished.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// wait returns when there were n more requests.
func (l *load) wait(t *testing.T, n int64) {
	t.Helper()
	until := l.calls.Load() + n
	for deadline := time.Now().Add(time.Minute); l.calls.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d requests in a minute", l.calls.Load()-until+n, n)
		}
	}
}

func (l *load) transport() *tailfin.Transport {
	conf := &quic.Config{}
	if l.patient {
		conf.HandshakeIdleTimeout = time.Minute
	}
	return &tailfin.Transport{DialTimeout: time.Minute, QUICConfig: conf, TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.certs[state.PeerCertificates[0].SerialNumber.String()]++
			return nil
		},
	}}
}

func (l *load) client(ctx context.Context, id int) {
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		if l.fresh && n > 0 {
			_ = tr.Close()
			tr = l.transport()
		}
		name := fmt.Sprintf("%d-%d", id, n)
		body := peer.Pattern(1 + (id*7919+n*104729)%40_000)
		sum := sha256.Sum256(body)
		var err error
		if n%3 == 2 {
			err = l.get(tr, len(body), sum)
		} else if err = l.put(tr, name, body); err == nil {
			l.mu.Lock()
			l.stored[name] = hex.EncodeToString(sum[:])
			l.mu.Unlock()
		}
		l.calls.Add(1)
		if err != nil {
			l.mu.Lock()
			l.errs = append(l.errs, fmt.Errorf("client %d, request %d: %w", id, n, err))
			l.mu.Unlock()
		}
	}
}

func (l *load) put(tr *tailfin.Transport, name string, body []byte) error {
	req, err := http.NewRequest(http.MethodPut, "https://"+l.addr+"/"+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

func (l *load) get(tr *tailfin.Transport, n int, want [sha256.Size]byte) error {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("https://%s/bytes/%d", l.addr, n), nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && sha256.Sum256(body) != want {
		err = fmt.Errorf("%s, %d bytes that are not what was asked for", resp.Status, len(body))
	}
	return err
}

// check demands that what was answered 201 is whole in dir.
func (l *load) check(t *testing.T, dir string) {
	t.Helper()
	for name, want := range l.stored {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("was answered 201, and is gone: %v", err)
			continue
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s was answered 201, and is not what was sent: %d bytes", name, len(body))
		}
	}
}
