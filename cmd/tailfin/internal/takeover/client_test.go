package takeover

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

func testCert(t testing.TB) tls.Certificate {
	t.Helper()
	cert, err := certOnce()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func keyBytes(t testing.TB, cert tls.Certificate) []byte {
	t.Helper()
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("a key of type %T", cert.PrivateKey)
	}
	b, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func certOf(s settings) (tls.Certificate, error) {
	key, err := x509.ParseECPrivateKey(s.Key)
	return tls.Certificate{Certificate: s.Cert, PrivateKey: key}, err
}

// newClient is a client with a socket of its own.
func newClient(t testing.TB) *tailfin.Transport {
	t.Helper()
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(testCert(t).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	tr := &tailfin.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DialTimeout: time.Minute,
		// For machines that are far too busy.
		QUICConfig: &quic.Config{MaxIdleTimeout: time.Minute, HandshakeIdleTimeout: 30 * time.Second},
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// slowBody gives its bytes in pieces, with a pause before each.
type slowBody struct {
	data  []byte
	piece int
	pause time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	time.Sleep(b.pause)
	n := copy(p, b.data[:min(len(b.data), b.piece)])
	b.data = b.data[n:]
	return n, nil
}

// trickle gives a little at a time until a gate opens, and then the rest. It is
// enough for a packet that is answered by a stateless reset, which must be shorter.
type trickle struct {
	data []byte
	gate <-chan struct{}
}

const little = 100

func (b *trickle) Read(p []byte) (int, error) {
	n := 0
	select {
	case <-b.gate:
		n = copy(p, b.data)
	case <-time.After(50 * time.Millisecond):
		// The last is not given before the gate opens.
		if len(b.data) > little {
			n = copy(p, b.data[:little])
		}
	}
	b.data = b.data[n:]
	if len(b.data) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// put sends a body, slowly if pause is not 0, and returns the generation of the
// instance that answered. That the answer does not fit the body is an error.
func put(ctx context.Context, tr http.RoundTripper, addr string, body []byte, pause time.Duration) (generation int, err error) {
	return send(ctx, tr, addr, body, func() io.Reader {
		if pause == 0 {
			return bytes.NewReader(body)
		}
		return &slowBody{body, max(1, len(body)/40), pause}
	})
}

// An upload is a request that is not over before finish.
type upload struct {
	gate chan struct{}
	over chan struct{} // closed at its end
	gen  int
	err  error
}

// begin returns when the request is under way.
func beginUpload(t *testing.T, tr http.RoundTripper, addr string, size int) *upload {
	t.Helper()
	u := &upload{gate: make(chan struct{}), over: make(chan struct{})}
	began := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaders: func() { close(began) }})
	body := bytes.Repeat([]byte("u"), size)
	go func() {
		defer close(u.over)
		u.gen, u.err = send(ctx, tr, addr, body, func() io.Reader { return &trickle{body, u.gate} })
	}()
	select {
	case <-began:
	case <-u.over:
		t.Fatal(u.err)
	}
	return u
}

// finish wants an answer of one generation.
func (u *upload) finish(t *testing.T, generation int) {
	t.Helper()
	select {
	case <-u.over:
		t.Errorf("over before its time: %v", u.err)
		return
	default:
	}
	close(u.gate)
	<-u.over
	if u.err != nil || u.gen != generation {
		t.Errorf("generation %d answered, want %d; %v", u.gen, generation, u.err)
	}
}

// send is put for any body.
func send(ctx context.Context, tr http.RoundTripper, addr string, body []byte, reader func() io.Reader) (generation int, err error) {
	open := func() io.ReadCloser { return io.NopCloser(reader()) }
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+addr+"/x", open())
	if err != nil {
		return 0, err
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return open(), nil }
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("answer: %w", err)
	}
	var n int
	var sum string
	if _, err := fmt.Sscanf(string(answer), "%d %d %s", &generation, &n, &sum); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %q", resp.Status, answer)
	}
	want := sha256.Sum256(body)
	if n != len(body) || sum != hex.EncodeToString(want[:]) {
		return 0, fmt.Errorf("%d bytes with sum %s arrived of %d", n, sum, len(body))
	}
	return generation, nil
}

// A relay is between a client and a server, and has a socket of its own that is
// connected to the server: what comes from another address does not get through.
type relay struct {
	t    *testing.T
	near *net.UDPConn
	to   *net.UDPAddr
	wg   sync.WaitGroup

	mu     sync.Mutex
	client *net.UDPAddr
	far    *net.UDPConn
	heard  int                                // datagrams that came over far
	hold   func(d []byte, toServer bool) bool // keeps a datagram back
	held   [][]byte                           // of the client
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, near: near, to: addr}
	r.rebind()
	r.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := near.ReadFromUDP(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.client = from
			if r.hold != nil && r.hold(buf[:n], true) {
				r.held = append(r.held, bytes.Clone(buf[:n]))
			} else {
				_, _ = r.far.Write(buf[:n])
			}
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = near.Close()
		r.mu.Lock()
		_ = r.far.Close()
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.near.LocalAddr().String() }

// rebind goes on with a new port, as a NAT does.
func (r *relay) rebind() {
	far, err := net.DialUDP("udp", nil, r.to)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.far != nil {
		_ = r.far.Close()
	}
	r.far, r.heard = far, 0
	r.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := far.Read(buf)
			if err != nil {
				if r.closed(far) {
					return
				}
				continue // an ICMP answer
			}
			r.mu.Lock()
			if far == r.far {
				r.heard++
			}
			if r.hold == nil || !r.hold(buf[:n], false) {
				_, _ = r.near.WriteToUDP(buf[:n], r.client)
			}
			r.mu.Unlock()
		}
	})
}

// answered tells whether the server goes on at the new port: the first datagrams only
// probe the path.
func (r *relay) answered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard > 5
}

func (r *relay) closed(far *net.UDPConn) bool {
	return far.SetReadDeadline(time.Time{}) != nil
}

// filter keeps back what f says.
func (r *relay) filter(f func(d []byte, toServer bool) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = f
}

// release lets all pass, and sends what was kept back of the client.
func (r *relay) release() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = nil
	for _, d := range r.held {
		_, _ = r.far.Write(d)
	}
	n = len(r.held)
	r.held = nil
	return n
}
