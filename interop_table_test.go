package tailfin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// TestInterop runs against every foreign peer that is installed, in both
// directions, and ends with a table of what was tried:
//
//	go test -run TestInterop -v .
func TestInterop(t *testing.T) {
	table := &interopTable{}
	for _, group := range []struct {
		name string
		run  func(*testing.T, *interopTable)
	}{
		{"tailfin", interopTailfin},
		{"http3 client", interopHTTP3Client},
		{"http3 server", interopHTTP3Server},
		{"xnet client", interopXNetClient},
		{"xnet server", interopXNetServer},
		{"ngtcp2 client", interopNGTCP2Client},
		{"ngtcp2 server", interopNGTCP2Server},
		{"chromium", interopChromium},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, table) })
	}
	t.Logf("interoperability:\n%s", table)
}

// An interopTable gathers what was tried with which peer.
type interopTable struct{ rows []interopRow }

type interopRow struct {
	peer, version, direction, reader, test, result string
	took                                           time.Duration
}

func (tab *interopTable) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "peer\tversion\tdirection\treader\ttest\tresult\tms")
	for _, r := range tab.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.peer, r.version, r.direction, r.reader, r.test, r.result, r.took.Milliseconds())
	}
	_ = w.Flush()
	return b.String()
}

// An interopCase is a peer, a direction and a way of reading: what a row of the
// table begins with.
type interopCase struct {
	table     *interopTable
	peer      peer.Program
	direction string
	reader    string
}

const (
	toServer = "peer's client, our server"
	toClient = "our client, peer's server"
)

// run is t.Run with a row in the table.
func (c interopCase) run(t *testing.T, test string, f func(t *testing.T)) {
	t.Helper()
	t.Run(test, func(t *testing.T) {
		start := time.Now()
		defer func() {
			result := "pass"
			switch {
			case t.Failed():
				result = "FAIL"
			case t.Skipped():
				result = "not run"
			}
			c.table.rows = append(c.table.rows, interopRow{
				c.peer.Name, c.peer.Version, c.direction, c.reader, test, result, time.Since(start),
			})
		}()
		f(t)
	})
}

// program is a foreign program, or the test is skipped with the reason.
func program(t *testing.T, table *interopTable, find func() (peer.Program, error)) peer.Program {
	t.Helper()
	p, err := find()
	if errors.Is(err, peer.ErrNotInstalled) {
		table.rows = append(table.rows, interopRow{peer: t.Name(), test: "all", result: "not run: " + err.Error()})
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// module is a peer that is linked in, with the version of its Go module. A test
// binary does not know the versions of its modules.
func module(name, path string) peer.Program {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
	if err != nil {
		return peer.Program{Name: name, Version: "unknown version"}
	}
	return peer.Program{Name: name, Version: strings.TrimSpace(string(out))}
}

// loopbacks are the addresses that can be listened on here.
func loopbacks(t *testing.T) []string {
	list := []string{"127.0.0.1"}
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Logf("without IPv6: %v", err)
		return list
	}
	_ = conn.Close()
	return append(list, "::1")
}

// eachReader runs f for each backend and address family. It sets what the rows
// of the table say of it.
func (c interopCase) eachReader(t *testing.T, f func(t *testing.T, c interopCase, backend udp.Backend, host string)) {
	for _, backend := range backends(t) {
		for _, host := range loopbacks(t) {
			c.reader = backend.String() + ", IPv4"
			if host == "::1" {
				c.reader = backend.String() + ", IPv6"
			}
			t.Run(strings.ReplaceAll(c.reader, ", ", "-"), func(t *testing.T) { f(t, c, backend, host) })
		}
	}
}

// A requestLog is a handler that answers like tailfin serve and remembers who
// asked for what.
type requestLog struct {
	mu       sync.Mutex
	requests []loggedRequest
}

type loggedRequest struct {
	Method, Path, Proto, Peer, Agent string
	Resumed                          bool
	Status                           int
	Received, Sent                   int64
}

// ServeHTTP answers GET and HEAD /bytes/N and POST /echo.
func (l *requestLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry := loggedRequest{
		Method: r.Method, Path: r.URL.Path, Proto: r.Proto, Peer: r.RemoteAddr, Agent: r.UserAgent(),
		Resumed: r.TLS.DidResume, Status: http.StatusOK,
	}
	size, isBytes := strings.CutPrefix(r.URL.Path, "/bytes/")
	switch {
	case isBytes:
		n, err := strconv.Atoi(size)
		if err != nil {
			entry.Status = http.StatusBadRequest
			break
		}
		w.Header().Set("Content-Length", size)
		body, _ := w.Write(peer.Pattern(n))
		entry.Sent = int64(body)
	case r.URL.Path == "/echo":
		entry.Received, _ = io.Copy(w, r.Body)
		entry.Sent = entry.Received
	default:
		entry.Status = http.StatusNotFound
	}
	if entry.Status != http.StatusOK {
		w.WriteHeader(entry.Status)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, entry)
}

// seen returns the requests so far.
func (l *requestLog) seen() []loggedRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

// take returns the requests so far, and forgets them.
func (l *requestLog) take() []loggedRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.requests
	l.requests = nil
	return list
}

// wantBody checks a body by its SHA-256.
func wantBody(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if sha256.Sum256(got) != sha256.Sum256(want) {
		t.Fatalf("%s: %d bytes with SHA-256 %x, want %d with %x", what, len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
	}
}

// TestInteropTable holds the form of the table.
func TestInteropTable(t *testing.T) {
	table := &interopTable{rows: []interopRow{{"a", "1.2", toServer, "mmsg, IPv4", "GET", "pass", 12 * time.Millisecond}}}
	want(t, table.String(), ""+
		"peer  version  direction                  reader      test  result  ms\n"+
		"a     1.2      peer's client, our server  mmsg, IPv4  GET   pass    12\n")
	rec := httptest.NewRecorder()
	log := &requestLog{}
	req := httptest.NewRequest(http.MethodGet, "https://localhost/bytes/300", nil)
	log.ServeHTTP(rec, req)
	wantBody(t, "/bytes/300", rec.Body.Bytes(), peer.Pattern(300))
	want(t, len(log.take()), 1)
}
