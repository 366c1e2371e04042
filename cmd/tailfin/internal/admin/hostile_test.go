package admin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// TestListenLoopback: an address without a host is not one that others reach.
func TestListenLoopback(t *testing.T) {
	for _, address := range []string{":0", "127.0.0.1:0", "[::1]:0"} {
		ln, err := Listen(address)
		if err != nil {
			if strings.Contains(address, "::1") {
				continue // there is no IPv6
			}
			t.Fatal(err)
		}
		if !isLocal(ln.Addr()) {
			t.Errorf("%s is %s", address, ln.Addr())
		}
		_ = ln.Close()
	}
	ln, err := Listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if isLocal(ln.Addr()) {
		t.Errorf("0.0.0.0 is %s, which others reach", ln.Addr())
	}
}

// TestHostileSlowAdmin has clients that send a byte now and then, nothing, or heads and
// bodies that are far too long. There are more of them than connections are taken; the
// operator gets an answer when their time is over.
func TestHostileSlowAdmin(t *testing.T) {
	t.Parallel() // it waits, most of the time
	a, base := start(t, Options{})
	eventually(t, "a sample", func() bool { return a.sampler.last() > 0 })
	addr := strings.TrimPrefix(base, "http://")
	slow := hostile.Result{Kind: "client", Fault: "slow, silent and oversized clients of the admin address", Tries: hostile.Size(maxConns+8, 400)}
	stop := make(chan struct{})
	var work sync.WaitGroup
	var ended atomic.Int64
	for i := range slow.Tries {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			defer conn.Close()
			if hostileAdminClient(conn, i%5, stop) {
				ended.Add(1)
			}
		})
	}
	begun := time.Now()
	c := client(t)
	resp, err := c.Get(base + "/healthz")
	if err != nil {
		t.Error(err)
		slow.Lost++
	} else {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			slow.Lost++
		}
	}
	took := time.Since(begun)
	close(stop)
	finished := make(chan struct{})
	go func() { work.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(patience):
		t.Error("connections are never given up")
		slow.Crashed++
	}
	slow.Bound = fmt.Sprintf("%d connections at once, %v for a head of %d kB at most: /healthz answered behind them in %v, %d ended by the daemon",
		maxConns, headerTimeout, maxHeaderBytes>>10, took.Round(100*time.Millisecond), ended.Load())
	slow.Report(t)
}

// hostileAdminClient plays one of the clients until the daemon has enough of it, or stop.
func hostileAdminClient(conn net.Conn, kind int, stop <-chan struct{}) (ended bool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn)
	}()
	var send func() error
	say := func(text string) error {
		_, err := io.WriteString(conn, text)
		return err
	}
	switch kind {
	case 0: // nothing
	case 1:
		_ = say("GET / HTTP/1.1\r\nHost: localhost\r\n")
		send = func() error { return say("X: y\r\n") }
	case 2:
		send = func() error { return say("G") }
	case 3:
		_ = say("GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
		send = func() error { return say(strings.Repeat("x", 4096)) }
	case 4:
		_ = say("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n")
		send = func() error { return say("x") }
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-closed:
			return true
		case <-stop:
			_ = conn.Close()
			<-closed
			return false
		case <-tick.C:
			if send != nil && send() != nil {
				_ = conn.Close()
				<-closed
				return true
			}
		}
	}
}

// TestHostileLabels has clients use many names, methods, hosts and agents: none becomes
// a label of a metric.
func TestHostileLabels(t *testing.T) {
	d := newDaemon(t, 1)
	a, base := start(t, d.options())
	eventually(t, "a check", func() bool { return !a.checker.known().at.IsZero() })
	tr := d.transport(t)
	c := client(t)
	series := func() (n int, text string) {
		_, text = get(t, c, base+"/metrics")
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		return n, text
	}
	labels := hostile.Result{Kind: "client", Fault: "names, hosts, agents and queries that are all different, in metrics", Tries: hostile.Size(200, 20_000)}
	one := func(i int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("https://%s/hostile-%d?q=%d", d.addr, i, i), strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Header["User-Agent"] = fmt.Sprintf("hostile-%d.example", i), []string{fmt.Sprint("hostile/", i)}
		if i%2 == 0 {
			req.URL.Path = fmt.Sprintf("/.hostile-%d", i) // a warning with the name
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("request %d: %v", i, err)
			labels.Lost++
			return
		}
		_ = resp.Body.Close()
	}
	one(0)
	one(1)
	before, _ := series()
	for i := range labels.Tries {
		one(i)
	}
	after, text := series()
	if strings.Contains(text, "hostile") {
		t.Error("what clients say is in the metrics")
		labels.Corrupt++
	}
	labels.Leaked = max(after-before-5, 0) // first times of what anyone does
	labels.Bound = fmt.Sprintf("%d series before, %d after", before, after)
	labels.Report(t)
}
