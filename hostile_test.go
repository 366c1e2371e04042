package tailfin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A siege is a server that is attacked while honest clients upload to it.
type siege struct {
	server *Server
	addr   string

	mu    sync.Mutex
	conns map[string]*quic.Conn // that are open at the server, by the address of the client
}

// siegeMemory is how much the heap may hold at most while a siege lasts, of attacker and
// honest clients too, beyond what it held before; siegeRest is what may be left of it.
const (
	siegeMemory = 96 << 20
	siegeRest   = 16 << 20
)

// newSiege starts a server, which change may change before.
func newSiege(t *testing.T, change func(*Server)) *siege {
	t.Helper()
	s := &siege{conns: make(map[string]*quic.Conn)}
	s.server = &Server{
		Handler:    besieged{},
		QUICConfig: &quic.Config{},
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			from := c.RemoteAddr().String()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns[from] = c
			context.AfterFunc(c.Context(), func() { s.forget(from, c) })
			return ctx
		},
	}
	if change != nil {
		change(s.server)
	}
	s.addr = startServer(t, s.server)
	return s
}

// textLog is a log that a test reads.
func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// besieged answers the SHA-256 of what it gets, and on other paths does as they say.
type besieged struct{}

func (besieged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/hold": // begins to answer, and does not go on
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/endless":
		chunk := peer.Pattern(32 << 10)
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	default:
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestTimeout)
			return
		}
		_, _ = io.WriteString(w, hex.EncodeToString(h.Sum(nil)))
	}
}

// forget drops a connection that is over, unless a later one has its address.
func (s *siege) forget(from string, c *quic.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[from] == c {
		delete(s.conns, from)
	}
}

// conn is the server's end of the connection of an attacker.
func (s *siege) conn(t *testing.T, from string) *quic.Conn {
	t.Helper()
	var c *quic.Conn
	eventually(t, "the server takes the connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		c = s.conns[from]
		return c != nil
	})
	return c
}

// dial makes a connection whose packets are made by the test, and the server's end of it.
func (s *siege) dial(t *testing.T) (*peer.Hostile, *quic.Conn) {
	t.Helper()
	h, err := peer.DialHostile(timeout(t), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn := s.conn(t, h.LocalAddr().String())
	t.Cleanup(func() {
		defer h.Close()
		eventually(t, "the server takes a close", func() bool { return conn.Context().Err() != nil || h.Leave() != nil })
	})
	return h, conn
}

// ended waits for the server to end a connection, and returns why it did.
func (s *siege) ended(t *testing.T, c *quic.Conn) error {
	t.Helper()
	select {
	case <-c.Context().Done():
		return context.Cause(c.Context())
	case <-timeout(t).Done():
		t.Fatal("the server does not end the connection")
		return nil
	}
}

// A level is what a process holds.
type level struct {
	heap       uint64
	goroutines int
}

func (l level) beside(o level) level {
	return level{max(l.heap, o.heap), max(l.goroutines, o.goroutines)}
}

// levelNow is cheap; what nobody holds any more may be in it.
func levelNow() level {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return level{sample[0].Value.Uint64(), runtime.NumGoroutine()}
}

// levelHeld collects garbage first, pools too.
func levelHeld() level {
	runtime.GC()
	runtime.GC()
	return levelNow()
}

// attack runs an attack beside honest clients and reports it. attack returns how often it
// tried, and what bounded it; the attacker leaves with the end of its test.
func (s *siege) attack(t *testing.T, row hostile.Result, attack func(t *testing.T) (tries int, bound string)) {
	t.Helper()
	before := levelHeld()
	load := startHonest(t, s.addr)
	peak := watchLevel()
	t.Run("attack", func(t *testing.T) { row.Tries, row.Bound = attack(t) })
	most := peak()
	load.end()
	row.Lost, row.Corrupt = load.lost(), int(load.corrupt.Load())
	after, conns := s.settled(before)
	row.Leaked = conns + max(0, after.goroutines-before.goroutines)
	if after.heap > before.heap+siegeRest {
		row.Leaked++
		t.Errorf("the heap had %d kB before and has %d kB after", before.heap>>10, after.heap>>10)
	}
	if most.heap > before.heap+siegeMemory {
		t.Errorf("the heap grew by %d MB", (most.heap-before.heap)>>20)
	}
	row.Crashed = int(s.server.Stats().Panics)
	row.Bound += fmt.Sprintf("; heap of both sides +%.1f MB at most, %+.1f MB after; %d uploads beside it whole",
		float64(int64(most.heap)-int64(before.heap))/1e6, float64(int64(after.heap)-int64(before.heap))/1e6, load.whole.Load())
	row.Report(t)
}

// inRounds runs an attack again and again. The attackers of a round leave with its end, so
// that the memory of many is not taken for that of one.
func inRounds(t *testing.T, rounds int, attack func(t *testing.T)) {
	t.Helper()
	for range rounds {
		t.Run("round", attack)
	}
}

// settled waits until everybody has left, and returns what is left.
func (s *siege) settled(before level) (after level, conns int) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		stats := s.server.Stats()
		conns = stats.ConnsOpen + stats.HandshakesActive + int(stats.RequestsActive)
		now := levelNow()
		if conns == 0 && now.goroutines <= before.goroutines || time.Now().After(deadline) {
			return level{levelHeld().heap, now.goroutines}, conns
		}
	}
}

// watchLevel looks at the level of the process until it is asked for its peak.
func watchLevel() (peak func() level) {
	stop, most := make(chan struct{}), make(chan level)
	go func() {
		var top level
		for {
			top = top.beside(levelNow())
			select {
			case <-stop:
				most <- top
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() level {
		close(stop)
		return <-most
	}
}

// honest are clients that upload and check what is said of it, for as long as an attack
// lasts and once more.
type honest struct {
	tr      *Transport
	wg      sync.WaitGroup
	stop    chan struct{}
	whole   atomic.Int64
	corrupt atomic.Int64

	mu   sync.Mutex
	errs []error
	t    *testing.T
}

const honestClients = 2

func startHonest(t *testing.T, addr string) *honest {
	t.Helper()
	l := &honest{tr: newTransport(t, &Transport{DialTimeout: time.Minute, QUICConfig: &quic.Config{HandshakeIdleTimeout: time.Minute}}), stop: make(chan struct{}), t: t}
	var begun sync.WaitGroup
	for id := range honestClients {
		begun.Add(1)
		l.wg.Go(func() {
			begin := sync.OnceFunc(begun.Done)
			defer begin()
			for n, last := 0, false; !last; n++ {
				select {
				case <-l.stop:
					last = true
				default:
				}
				l.upload(t.Context(), addr, peer.Pattern(1+(id*7919+n*104729)%100_000))
				begin()
			}
		})
	}
	begun.Wait()
	return l
}

func (l *honest) upload(ctx context.Context, addr string, body []byte) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	got, err := l.ask(ctx, addr, body)
	sum := sha256.Sum256(body)
	switch {
	case err != nil:
		l.mu.Lock()
		l.errs = append(l.errs, err)
		l.mu.Unlock()
	case got != hex.EncodeToString(sum[:]):
		l.corrupt.Add(1)
	default:
		l.whole.Add(1)
	}
}

func (l *honest) ask(ctx context.Context, addr string, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+addr+"/sum", strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	resp, err := l.tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// end stops the clients, after one upload more of each.
func (l *honest) end() {
	close(l.stop)
	l.wg.Wait()
	_ = l.tr.Close()
}

// lost is how many uploads have failed, and shows why.
func (l *honest) lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.errs[:min(3, len(l.errs))] {
		l.t.Logf("an honest upload: %v", err)
	}
	return len(l.errs)
}
