package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

// patience bounds what a loaded machine may take; nothing is measured by it.
const patience = time.Minute

// eventually waits for something to become so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

// observed is a daemon with an admin address.
type observed struct {
	*daemon
	admin string
}

var adminField = regexp.MustCompile(`(?m)^ready .* admin=(\S+)`)

func serveObserved(t *testing.T, args ...string) *observed {
	t.Helper()
	return observe(t, serveAs(t, func(*exec.Cmd) {}, append([]string{"--admin", "127.0.0.1:0"}, args...)...))
}

func observe(t *testing.T, d *daemon) *observed {
	t.Helper()
	d.waitLog(t, " reason=") // of the line with ready
	m := adminField.FindStringSubmatch(d.log.String())
	if m == nil {
		t.Fatalf("no admin address:\n%s", d.log)
	}
	return &observed{d, m[1]}
}

// page fetches from the admin address.
func (d *observed) page(t *testing.T, path string) (status int, text string) {
	t.Helper()
	resp, err := http.Get("http://" + d.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// metric sums the counters and gauges of a name that have all of the labels, given as
// name=value. It fails the test where there is none.
func (d *observed) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	_, text := d.page(t, "/metrics")
	dec := expfmt.NewDecoder(strings.NewReader(text), expfmt.NewFormat(expfmt.TypeTextPlain))
	sum, found := 0.0, false
	for {
		var family dto.MetricFamily
		err := dec.Decode(&family)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, labels) {
				sum, found = sum+m.GetCounter().GetValue()+m.GetGauge().GetValue(), true
			}
		}
	}
	if !found {
		t.Fatalf("there is no metric %s %v", name, labels)
	}
	return sum
}

func hasLabels(m *dto.Metric, labels []string) bool {
	has := make(map[string]bool)
	for _, l := range m.GetLabel() {
		has[l.GetName()+"="+l.GetValue()] = true
	}
	for _, l := range labels {
		if !has[l] {
			return false
		}
	}
	return true
}

// waitMetric waits for a metric to have a value.
func (d *observed) waitMetric(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	var got float64
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if got = d.metric(t, name, labels...); got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %v is %v, want %v\n%s", name, labels, got, want, d.log)
		}
	}
}

// waitReady waits for /readyz to answer a status, and returns what it says.
func (d *observed) waitReady(t *testing.T, want int) string {
	t.Helper()
	var text string
	eventually(t, fmt.Sprintf("/readyz answers %d", want), func() bool {
		var status int
		status, text = d.page(t, "/readyz")
		return status == want
	})
	return text
}

// lines counts those lines of the log that have all parts.
func (d *daemon) lines(parts ...string) int {
	n := 0
	for line := range strings.Lines(d.log.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			n++
		}
	}
	return n
}

// newTransport is a client that trusts the development certificate.
func newTransport(t *testing.T) *tailfin.Transport {
	t.Helper()
	tr := &tailfin.Transport{DialTimeout: patience, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body []byte
}

func send(t *testing.T, rt http.RoundTripper, method, url string, body io.Reader, header ...string) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{resp, text}, err
}

// wantStatus sends a request and demands a status.
func wantStatus(t *testing.T, rt http.RoundTripper, want int, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	a, err := send(t, rt, method, url, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if a.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d: %s", method, url, a.Status, want, a.body)
	}
	return a
}

// unsized hides the length of a body.
func unsized(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

// dialRaw makes a connection that speaks no HTTP/3 by itself, from an address such as
// 127.0.0.2.
func dialRaw(t *testing.T, addr, from string) (*quic.Conn, error) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: socket}
	t.Cleanup(func() { _ = tr.Close(); _ = socket.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{MaxIdleTimeout: patience, HandshakeIdleTimeout: patience})
}

// mustDial is dialRaw from the usual address.
func mustDial(t *testing.T, addr string) *quic.Conn {
	t.Helper()
	conn, err := dialRaw(t, addr, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// wantRefused demands that a new connection is refused before its handshake.
func wantRefused(t *testing.T, addr, from string) {
	t.Helper()
	_, err := dialRaw(t, addr, from)
	var refused *quic.TransportError
	if !errors.As(err, &refused) || !refused.Remote || refused.ErrorCode != quic.ConnectionRefused {
		t.Fatalf("one connection more: %v, want CONNECTION_REFUSED", err)
	}
}
