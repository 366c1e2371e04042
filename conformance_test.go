package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// A conformanceRow is one behaviour that net/http promises of a server: a handler, a
// request, and what is seen of it, as text. Our server must show want. quic-go's
// http3.Server must show the same, or peer where that is not empty, and why says
// which of the two is right.
type conformanceRow struct {
	name    string
	method  string // GET if empty
	target  string // path and query, "/" if empty
	body    io.ReadSeeker
	request func(*http.Request) // changes the request; may be nil
	handler func(x *exchange, w http.ResponseWriter, r *http.Request)
	see     func(x *exchange) string
	want    string
	peer    string
	why     string
}

// An exchange is one request and what was seen of it at both ends.
type exchange struct {
	resp    *http.Response
	body    string
	err     error // of the request or of its body
	interim []string

	mu    sync.Mutex
	notes []string // by the handler
	done  chan struct{}
}

// note keeps what the handler sees.
func (x *exchange) note(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

// noted waits for the handler, and returns its notes.
func (x *exchange) noted() string {
	<-x.done
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.Join(x.notes, ", ")
}

// failed tells that the client saw the answer fail.
func (x *exchange) failed() string {
	if x.err == nil {
		return fmt.Sprintf("whole answer: %d %q", x.resp.StatusCode, x.body)
	}
	return "failed"
}

// answer is status, length and body.
func (x *exchange) answer() string {
	if x.err != nil {
		return "error: " + x.err.Error()
	}
	return fmt.Sprintf("%d %d %q", x.resp.StatusCode, x.resp.ContentLength, x.body)
}

// header returns fields of the answer, a missing one as "-".
func header(names ...string) func(*exchange) string {
	return func(x *exchange) string {
		if x.err != nil {
			return "error: " + x.err.Error()
		}
		var values []string
		for _, name := range names {
			v, ok := x.resp.Header[name]
			if !ok {
				v = []string{"-"}
			}
			values = append(values, strings.Join(v, " | "))
		}
		return strings.Join(values, "; ")
	}
}

// TestConformance runs every row against our server and against quic-go's, through
// quic-go's client.
func TestConformance(t *testing.T) {
	var table strings.Builder
	tab := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "behaviour\ttailfin\tquic-go/http3")
	for _, row := range conformanceRows() {
		t.Run(row.name, func(t *testing.T) {
			ours := row.run(t, func(h http.Handler) string { return startServer(t, &Server{Handler: h, MaxHeaderBytes: 4096}) })
			theirs := row.run(t, func(h http.Handler) string { return startHTTP3(t, h) })
			want(t, ours, row.want)
			verdict := "the same"
			if row.peer != "" {
				want(t, theirs, row.peer)
				verdict = fmt.Sprintf("%s (%s)", row.peer, row.why)
			} else {
				want(t, theirs, row.want)
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\n", row.name, ours, verdict)
		})
	}
	_ = tab.Flush()
	t.Log("\n" + table.String())
}

// run makes the row's exchange with a server that start starts.
func (row conformanceRow) run(t *testing.T, start func(http.Handler) string) string {
	t.Helper()
	x := &exchange{done: make(chan struct{})}
	addr := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(x.done)
		row.handler(x, w, r)
	}))
	tr := &http3.Transport{TLSClientConfig: clientTLS(t)}
	defer tr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		x.interim = append(x.interim, fmt.Sprintf("%d %s", code, h.Get("Link")))
		return nil
	}})
	method, target := row.method, row.target
	if method == "" {
		method = http.MethodGet
	}
	if target == "" {
		target = "/"
	}
	if row.body != nil {
		_, _ = row.body.Seek(0, io.SeekStart) // for the second server
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+addr+target, readerOf(row.body))
	if err != nil {
		t.Fatal(err)
	}
	if row.request != nil {
		row.request(req)
	}
	x.resp, x.err = tr.RoundTrip(req)
	if x.err == nil {
		var body []byte
		body, x.err = io.ReadAll(x.resp.Body)
		_ = x.resp.Body.Close()
		x.body = string(body)
	}
	return strings.ReplaceAll(row.see(x), addr, "ADDR")
}

// readerOf keeps an interface that is nil from becoming one that is not.
func readerOf(r io.ReadSeeker) io.Reader {
	if r == nil {
		return nil
	}
	return r
}

// startHTTP3 serves by quic-go/http3 until the test ends.
func startHTTP3(t *testing.T, h http.Handler) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http3.Server{
		Handler:        h,
		TLSConfig:      http3.ConfigureTLSConfig(serverTLS(t)),
		MaxHeaderBytes: 4096,
		Logger:         slog.New(slog.DiscardHandler),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(conn) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("http3.Server: %v", err)
		}
		_ = conn.Close()
	})
	return conn.LocalAddr().String()
}
