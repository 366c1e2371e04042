package udp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// TestQUIC has quic-go transfer over each backend, close while it reads, and
// use the Conn again with another Transport.
func TestQUIC(t *testing.T) {
	tlsConf := testTLS(t)
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		server, client := listen(t, "udp", "127.0.0.1:0"), listen(t, "udp", "127.0.0.1:0")
		for range 3 {
			transfer(t, server, client, tlsConf)
		}
		if st := server.Stats(); st.Datagrams == 0 || st.Truncated != 0 || st.KernelDrops != 0 {
			t.Logf("server: %+v", st)
		}
	})
}

func transfer(t *testing.T, serverConn, clientConn *Conn, tlsConf *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	st, ct := &quic.Transport{Conn: serverConn}, &quic.Transport{Conn: clientConn}
	defer func() {
		_ = ct.Close()
		_ = st.Close()
	}()
	ln, err := st.Listen(tlsConf, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 8<<20)
	_, _ = rand.Read(body)
	sum := make(chan [32]byte, 1)
	go func() {
		conn, err := ln.Accept(ctx)
		if err != nil {
			t.Error(err)
			close(sum)
			return
		}
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			t.Error(err)
			close(sum)
			return
		}
		h := sha256.New()
		if _, err := io.Copy(h, s); err != nil {
			t.Error(err)
		}
		sum <- [32]byte(h.Sum(nil))
	}()
	conn, err := ct.Dial(ctx, serverConn.LocalAddr(), tlsConf, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(body); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if got := <-sum; got != sha256.Sum256(body) {
		t.Fatal("what arrived is not what was sent")
	}
	_ = conn.CloseWithError(0, "")
}

// testTLS is for both ends, which trust anything.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		InsecureSkipVerify: true,
		NextProtos:         []string{"test"},
		ServerName:         "localhost",
	}
}

// events keeps what quic-go records of connections.
type events struct {
	mu   sync.Mutex
	list []qlogwriter.Event
}

func (e *events) SupportsSchemas(string) bool      { return true }
func (e *events) AddProducer() qlogwriter.Recorder { return e }
func (e *events) Close() error                     { return nil }
func (e *events) RecordEvent(event qlogwriter.Event) {
	e.mu.Lock()
	e.list = append(e.list, event)
	e.mu.Unlock()
}
func (e *events) config() *quic.Config {
	return &quic.Config{Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return e }}
}

// find calls f with each event until it reports true.
func (e *events) find(f func(qlogwriter.Event) bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.list {
		if f(event) {
			return true
		}
	}
	return false
}

// echoServer answers each stream with what came, until the test ends.
func echoServer(t *testing.T, c *Conn, tlsConf *tls.Config, conf *quic.Config, verify bool) {
	t.Helper()
	tr := &quic.Transport{Conn: c}
	if verify {
		tr.VerifySourceAddress = func(net.Addr) bool { return true }
	}
	serveEcho(t, tr, tlsConf, conf)
}

func serveEcho(t *testing.T, tr *quic.Transport, tlsConf *tls.Config, conf *quic.Config) {
	t.Helper()
	ln, err := tr.Listen(tlsConf, conf)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = tr.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				for {
					s, err := conn.AcceptStream(context.Background())
					if err != nil {
						return
					}
					wg.Go(func() {
						_, _ = io.Copy(s, s)
						_ = s.Close()
					})
				}
			})
		}
	})
}

// echo sends n bytes and wants them back.
func echo(t *testing.T, conn *quic.Conn, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, n)
	_, _ = rand.Read(body)
	failed := make(chan error, 1)
	go func() {
		_, err := s.Write(body)
		failed <- errors.Join(err, s.Close())
	}()
	got, err := io.ReadAll(s)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(body) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), n, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// dialQUIC connects a Transport of its own.
func dialQUIC(t *testing.T, c *Conn, to net.Addr, tlsConf *tls.Config, conf *quic.Config) (*quic.Transport, *quic.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tr := &quic.Transport{Conn: c}
	t.Cleanup(func() { _ = tr.Close() })
	conn, err := tr.Dial(ctx, to, tlsConf, conf)
	if err != nil {
		t.Fatal(err)
	}
	return tr, conn
}

// TestQUICValidatesECN wants quic-go to find the path capable of ECN, which it
// does only if the marks of what it sent are counted by its peer.
func TestQUICValidatesECN(t *testing.T) {
	tlsConf := testTLS(t)
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
			server, client := listen(t, "udp", addr), listen(t, "udp", addr)
			var ev events
			echoServer(t, server, tlsConf, nil, false)
			_, conn := dialQUIC(t, client, server.LocalAddr(), tlsConf, ev.config())
			echo(t, conn, 1<<20)
			if !ev.find(func(e qlogwriter.Event) bool {
				state, ok := e.(qlog.ECNStateUpdated)
				return ok && state.State == qlog.ECNStateCapable
			}) {
				t.Errorf("%s: quic-go did not find the path capable of ECN", addr)
			}
			_ = conn.CloseWithError(0, "")
		}
	})
}

// TestQUICDiscoversMTU wants quic-go to find that loopback carries more than
// its initial 1280 bytes: it needs DF set, and EMSGSIZE reported.
func TestQUICDiscoversMTU(t *testing.T) {
	tlsConf := testTLS(t)
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		server, client := listen(t, "udp", "127.0.0.1:0"), listen(t, "udp", "127.0.0.1:0")
		var ev events
		echoServer(t, server, tlsConf, nil, false)
		_, conn := dialQUIC(t, client, server.LocalAddr(), tlsConf, ev.config())
		defer func() { _ = conn.CloseWithError(0, "") }()
		grown := func(e qlogwriter.Event) bool {
			mtu, ok := e.(qlog.MTUUpdated)
			return ok && mtu.Value > 1400
		}
		for range 100 {
			if echo(t, conn, 100_000); ev.find(grown) {
				return
			}
			time.Sleep(5 * time.Millisecond) // probes are a round trip apart
		}
		t.Error("the MTU stayed at what it was")
	})
}

// TestQUICRetry has the server ask for a token first.
func TestQUICRetry(t *testing.T) {
	tlsConf := testTLS(t)
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		server, client := listen(t, "udp", "127.0.0.1:0"), listen(t, "udp", "127.0.0.1:0")
		var ev events
		echoServer(t, server, tlsConf, nil, true)
		_, conn := dialQUIC(t, client, server.LocalAddr(), tlsConf, ev.config())
		echo(t, conn, 100_000)
		if !ev.find(func(e qlogwriter.Event) bool {
			p, ok := e.(qlog.PacketReceived)
			return ok && p.Header.PacketType == qlog.PacketTypeRetry
		}) {
			t.Error("there was no Retry packet, so this shows nothing")
		}
		_ = conn.CloseWithError(0, "")
	})
}

// migrate moves a connection to a Transport of its own on another Conn.
func migrate(t *testing.T, conn *quic.Conn, to *Conn) {
	t.Helper()
	tr := &quic.Transport{Conn: to}
	t.Cleanup(func() { _ = tr.Close() })
	path, err := conn.AddPath(tr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := path.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	if err := path.Switch(); err != nil {
		t.Fatal(err)
	}
}

// TestQUICMigrates moves a connection to another socket of the client's.
func TestQUICMigrates(t *testing.T) {
	tlsConf := testTLS(t)
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		server, client, other := listen(t, "udp", "127.0.0.1:0"), listen(t, "udp", "127.0.0.1:0"), listen(t, "udp", "127.0.0.1:0")
		echoServer(t, server, tlsConf, nil, false)
		_, conn := dialQUIC(t, client, server.LocalAddr(), tlsConf, nil)
		echo(t, conn, 100_000)
		migrate(t, conn, other)
		before := other.Stats().Datagrams
		echo(t, conn, 1<<20)
		if after := other.Stats().Datagrams; after < before+100 {
			t.Errorf("the new path received %d datagrams", after-before)
		}
		_ = conn.CloseWithError(0, "")
	})
}

// TestQUICClosesWhileReading has quic-go end a reader that is blocked, and wants
// it gone and the Conn usable.
func TestQUICClosesWhileReading(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		for range 50 {
			tr := &quic.Transport{Conn: c}
			if _, err := tr.WriteTo([]byte{0}, s.LocalAddr()); err != nil { // starts the reader
				t.Fatal(err)
			}
			closed := make(chan error)
			go func() { closed <- tr.Close() }()
			select {
			case err := <-closed:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Transport.Close hangs")
			}
		}
		_ = c.SetReadDeadline(time.Time{})
		if _, err := s.Write([]byte("after")); err != nil {
			t.Fatal(err)
		}
		if got := collect(t, c, 1); string(got[0]) != "after" {
			t.Errorf("%q", got)
		}
	})
}
