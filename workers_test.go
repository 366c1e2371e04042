package tailfin

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// TestWorkersAreUsedAgain sends requests one after the other, and then some at once.
func TestWorkersAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	stacks := map[string]bool{} // goroutines that have served, by number
	release := make(chan struct{})
	var waiting sync.WaitGroup
	s := &Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var buf [64]byte
		number, _, _ := strings.Cut(strings.TrimPrefix(string(buf[:runtime.Stack(buf[:], false)]), "goroutine "), " ")
		mu.Lock()
		stacks[number] = true
		mu.Unlock()
		if r.URL.Path == "/wait" {
			waiting.Done()
			<-release
		}
	})}
	addr := startServer(t, s)
	tr := newTransport(t, &Transport{})
	hc := &http.Client{Transport: tr}
	fetch := func(path string) {
		resp, err := hc.Get("https://" + addr + path)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
	}
	idle := func() int {
		s.workers.mu.Lock()
		defer s.workers.mu.Unlock()
		return len(s.workers.idle)
	}
	for range 50 {
		fetch("/")
		eventually(t, "a worker that waits", func() bool { return idle() > 0 })
	}
	mu.Lock()
	if len(stacks) != 1 {
		t.Errorf("%d goroutines served 50 requests in turn", len(stacks))
	}
	mu.Unlock()
	const atOnce = 10
	waiting.Add(atOnce)
	var fetches sync.WaitGroup
	for range atOnce {
		fetches.Go(func() { fetch("/wait") })
	}
	waiting.Wait() // none waits for a worker
	close(release)
	fetches.Wait()
	eventually(t, "workers that wait", func() bool { return idle() == atOnce })
	_ = tr.Close()
	eventually(t, "the end of workers without connections", func() bool { return idle() == 0 })
}

// TestHandlerThatEndsItsGoroutine is what a handler does that calls testing.T.FailNow.
func TestHandlerThatEndsItsGoroutine(t *testing.T) {
	s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exit" {
			runtime.Goexit()
		}
		_, _ = io.WriteString(w, "here")
	})}
	addr := startServer(t, s)
	c := newRawClient(t, addr)
	str := c.send(t, get("/exit"))
	var reset *quic.StreamError
	if answer, err := io.ReadAll(str); !errors.As(err, &reset) || reset.ErrorCode != quic.StreamErrorCode(h3frame.ErrCodeInternal) {
		t.Errorf("answer %q, %v, want a reset with H3_INTERNAL_ERROR", answer, err)
	}
	eventually(t, "the end of the request", func() bool {
		stats := s.Stats()
		return stats.Requests == 1 && stats.RequestsActive == 0
	})
	resp, err := client(t, &Transport{}).Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); string(body) != "here" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// TestWorkersForget has a worker wait that has last served a connection which is over:
// it must not keep that in memory.
func TestWorkersForget(t *testing.T) {
	s := &Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	addr := startServer(t, s)
	newRawClient(t, addr) // stays, and the worker with it
	eventually(t, "the first connection", func() bool { return len(s.openConns(nil)) == 1 })
	other := s.openConns(nil)[0]
	var served weak.Pointer[serverConn]
	func() {
		tr := &Transport{TLSClientConfig: clientTLS(t), Logger: quietLog}
		defer func() { _ = tr.Close() }()
		for range 3 { // the first on a new goroutine, the last on one that was used
			resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
		for _, c := range s.openConns(nil) {
			if c != other {
				served = weak.Make(c)
			}
		}
	}()
	eventually(t, "the end of the connection", func() bool { return len(s.openConns(nil)) == 1 })
	eventually(t, "the memory of the connection is free", func() bool {
		runtime.GC()
		return served.Value() == nil
	})
	s.workers.mu.Lock()
	defer s.workers.mu.Unlock()
	if len(s.workers.idle) == 0 {
		t.Error("no worker waits")
	}
}
