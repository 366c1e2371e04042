package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/udp"
)

// A behaviour is how a server of the test misbehaves.
type behaviour string

const (
	good     behaviour = "good"
	forgets  behaviour = "forgets"  // answers as if it had stored
	mangles  behaviour = "mangles"  // stores and sends other bytes
	shortens behaviour = "shortens" // stores and sends fewer
	refuses  behaviour = "refuses"
)

func (b behaviour) spoil(body []byte) []byte {
	switch {
	case b == mangles && len(body) > 0:
		body = bytes.Clone(body)
		body[len(body)/2] ^= 1
	case b == shortens && len(body) > 0:
		body = body[:len(body)-1]
	}
	return body
}

// ServeHTTP does what serve does, as far as the load asks for it.
func (b behaviour) serve(dir string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		name := filepath.Base(r.URL.Path)
		switch n, isBytes := strings.CutPrefix(r.URL.Path, "/bytes/"); {
		case err != nil || b == refuses:
			http.Error(w, "no", http.StatusInternalServerError)
		case r.Method == http.MethodPost:
			_, _ = w.Write(b.spoil(body))
		case r.Method == http.MethodGet && isBytes:
			size, _ := strconv.Atoi(n)
			p := make([]byte, size)
			pattern(p, 0)
			_, _ = w.Write(b.spoil(p))
		case r.Method == http.MethodGet:
			body, _ := os.ReadFile(filepath.Join(dir, name))
			_, _ = w.Write(b.spoil(body))
		default:
			if b != forgets {
				_ = os.WriteFile(filepath.Join(dir, name+"~"), b.spoil(body), 0o600)
				_ = os.Rename(filepath.Join(dir, name+"~"), filepath.Join(dir, name))
			}
			w.WriteHeader(http.StatusCreated)
			sum := sha256.Sum256(body)
			_ = json.NewEncoder(w).Encode(map[string]any{"bytes": len(body), "sha256": fmt.Sprintf("%x", sum)})
		}
	}
}

// newLoad is one without clients, of a server that misbehaves.
func newLoad(t *testing.T, b behaviour) *load {
	t.Helper()
	dir := t.TempDir()
	made := httptest.NewUnstartedServer(nil)
	made.StartTLS()
	made.Close()
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tailfin.Server{
		Handler: b.serve(dir), TLSConfig: &tls.Config{Certificates: made.TLS.Certificates, MinVersion: tls.VersionTLS13},
		Logger: slog.New(slog.DiscardHandler),
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
		_ = conn.Close()
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &load{loadConfig: loadConfig{Addr: conn.LocalAddr().String(), Stored: dir, Root: t.TempDir(), Seed: 1}, ctx: ctx, stop: make(chan struct{})}
}

// TestLoadFinds has servers that misbehave be found out, and one that does not.
func TestLoadFinds(t *testing.T) {
	for b, want := range map[behaviour]struct {
		put, get, echo, stored Tally
	}{
		good:     {Tally{Done: 1}, Tally{Done: 1}, Tally{Done: 1}, Tally{Done: 1}},
		forgets:  {Tally{Lost: 1}, Tally{Done: 1}, Tally{Done: 1}, Tally{Corrupt: 1}},
		mangles:  {Tally{Corrupt: 1}, Tally{Corrupt: 1}, Tally{Corrupt: 1}, Tally{Done: 1}}, // twice is as it was
		shortens: {Tally{Corrupt: 1}, Tally{Corrupt: 1}, Tally{Corrupt: 1}, Tally{Corrupt: 1}},
		refuses:  {Tally{Lost: 1}, Tally{Lost: 1}, Tally{Lost: 1}, Tally{Lost: 1}},
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			l := newLoad(t, b)
			tr := l.transport()
			defer func() { _ = tr.Close() }()
			c := l.content(5000)
			if l.put(putSmall, tr, "a", c) {
				l.fetch(tr, "a", c)
				l.stored(putSmall, "a", c)
			} else {
				l.fetch(tr, "a", c)
			}
			l.get(getBytes, tr, 5000, nil)
			l.echo(echoes, tr, c)
			kinds, _, troubles := l.read()
			for kind, want := range map[string]Tally{putSmall: want.put, getBytes: want.get, echoes: want.echo, getStored: want.stored} {
				got := kinds[kind]
				got.Bytes = 0
				if got != want {
					t.Errorf("%s: %+v, want %+v", kind, got, want)
				}
			}
			if bad := sum(kinds); (bad.Lost+bad.Corrupt > 0) != (len(troubles) > 0) {
				t.Errorf("%+v, and what is said of it is %q", bad, troubles)
			}
			if left, err := leftovers(l.Stored); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestLoadExcuses has a request fail in a fault of the network, which is nobody's fault, and
// what a server does wrong in one, which is.
func TestLoadExcuses(t *testing.T) {
	l := newLoad(t, refuses)
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	l.windows.on(Loss, time.Now())
	l.get(getBytes, tr, 10, nil)
	l.windows.on(Stop, time.Now()) // which excuses no request
	l.windows.off(Loss, time.Now().Add(-2*settle))
	l.get(getBytes, tr, 10, nil)
	kinds, failures, _ := l.read()
	if got := kinds[getBytes]; got != (Tally{Failed: 1, Lost: 1}) || len(failures) != 1 {
		t.Errorf("%+v, %v", got, failures)
	}
	l.windows.on(Loss, time.Now())
	l.failed(getBytes, time.Now(), "GET", errCorrupt)
	kinds, _, _ = l.read()
	if got := kinds[getBytes]; got.Corrupt != 1 {
		t.Errorf("%+v", got)
	}
}

// TestLeavingAndAborting has clients that do not wait, for a while, and a last look at what
// they have left.
func TestLeavingAndAborting(t *testing.T) {
	l := newLoad(t, good)
	rng := rand.New(rand.NewPCG(1, 2))
	l.all.Go(func() { l.leaving(rand.New(rand.NewPCG(1, 3)), 0) })
	l.all.Go(func() { l.aborting(rng, 0) })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		kinds, _, _ := l.read()
		if kinds[leave].Done >= 2 && kinds[abort].GivenUp >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", kinds)
		}
	}
	if err := l.obey(wordStop, "", func() {}); err != nil {
		t.Fatal(err)
	}
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	for range dose {
		l.reset(rng, tr)
	}
	l.get(resets, tr, 5000, nil)
	// One that must not be there, for nobody has sent it whole.
	if err := os.WriteFile(l.path("cut"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.doubt(abort, "cut", l.content(1000))
	if err := l.obey(wordSweep, "", nil); err != nil {
		t.Fatal(err)
	}
	kinds, _, troubles := l.read()
	if all := sum(kinds); all.Lost != 0 || all.Corrupt != 1 || len(l.doubts.list) != 0 || kinds[resets].Done != 1 || kinds[resets].GivenUp != dose {
		t.Errorf("%+v, %q", kinds, troubles)
	}
	if left, err := leftovers(l.Stored); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestObey has the words that a parent says.
func TestObey(t *testing.T) {
	l := &load{stop: make(chan struct{})}
	for _, line := range [][2]string{{wordOn, string(Loss)}, {wordOff, string(Loss)}, {wordDropped, "2.500"}, {wordStats, ""}} {
		if err := l.obey(line[0], line[1], nil); err != nil {
			t.Error(err)
		}
	}
	if err := l.obey(wordDropped, "much", nil); err == nil {
		t.Error("dropped much")
	}
	if got := l.windows.worst(time.Now(), time.Now().Add(time.Second)); got != breaks {
		t.Errorf("just after a loss: %v", got)
	}
	if r := l.report(); r.Goroutines == 0 {
		t.Errorf("%+v", r)
	}
}

// TestFloods sends both kinds to a server, which goes on, and to a socket that tells what
// has come.
func TestFloods(t *testing.T) {
	host := netlab.Host{Addr: netip.MustParseAddr("127.0.0.1")}
	l := newLoad(t, good)
	to := netip.MustParseAddrPort(l.Addr)
	rng := rand.New(rand.NewPCG(1, 2))
	if err := garbage(t.Context(), host, to, 2000, rng); err != nil {
		t.Error(err)
	}
	if err := initials(t.Context(), host, to, 20, rng); err != nil {
		t.Error(err)
	}
	tr := l.transport()
	defer func() { _ = tr.Close() }()
	l.get(getBytes, tr, 5000, nil)
	if kinds, _, troubles := l.read(); kinds[getBytes].Done != 1 {
		t.Errorf("%+v, %q", kinds, troubles)
	}
	sink, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	to = netip.MustParseAddrPort(sink.LocalAddr().String())
	if err := initials(t.Context(), host, to, 3, rng); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	p := make([]byte, 2000)
	_ = sink.SetReadDeadline(time.Now().Add(time.Minute))
	for range 3 {
		n, from, err := sink.ReadFrom(p)
		const longInitial = 0xc0
		if err != nil || n < 1200 || p[0]&0xf0 != longInitial {
			t.Fatalf("%d bytes that begin with %x from %v: %v", n, p[0], from, err)
		}
		seen[string(p[6:6+p[5]])] = true
	}
	if len(seen) < 2 { // a ClientHello may have two datagrams
		t.Errorf("%d connection IDs of 3 datagrams", len(seen))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := garbage(ctx, host, to, 1, rng); err == nil {
		t.Error("a burst though it is over")
	}
}
