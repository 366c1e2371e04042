package netlab

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

const protocol = "netlab"

// testTLS is a server's and a client's.
func testTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{protocol}},
		&tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: []string{protocol}}
}

// A transfer is of random bytes, from the sender to the receiver, whose hash goes back.
type transfer struct {
	stream *quic.Stream
	seen   chan net.Addr // where the server saw the client last
}

// newTransfer connects a client in the sender to a server in the receiver, which hashes
// what it is sent.
func newTransfer(t *testing.T, lab *Lab, addrs [2]netip.Addr) *transfer {
	t.Helper()
	server, client := testTLS(t)
	config := &quic.Config{MaxIdleTimeout: patience}
	at, from := listen(t, lab.Receiver, addrs[0]), listen(t, lab.Sender, addrs[1])
	receiving, sending := &quic.Transport{Conn: at}, &quic.Transport{Conn: from}
	t.Cleanup(func() {
		if err := errors.Join(sending.Close(), receiving.Close()); err != nil {
			t.Error(err)
		}
	})
	deadline := time.Time{}
	_, _ = at.SetReadDeadline(deadline), from.SetReadDeadline(deadline) // quic-go has its own
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	ln, err := receiving.Listen(server, config)
	if err != nil {
		t.Fatal(err)
	}
	served, seen := make(chan struct{}), make(chan net.Addr, 1)
	go func() {
		defer close(served)
		if err := hashOne(ctx, ln, seen); err != nil {
			t.Errorf("server: %v", err)
		}
	}()
	conn, err := sending.Dial(ctx, at.LocalAddr(), client, config)
	if err != nil {
		cancel()
		<-served
		t.Fatal(err)
	}
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.CloseWithError(0, "")
		cancel()
		<-served
		_ = ln.Close()
	})
	return &transfer{stream, seen}
}

// hashOne answers the first stream of the first connection with the hash of it.
func hashOne(ctx context.Context, ln *quic.Listener, seen chan<- net.Addr) error {
	conn, err := ln.Accept(ctx)
	if err != nil {
		return err
	}
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, stream); err != nil {
		return err
	}
	seen <- conn.RemoteAddr()
	if _, err := stream.Write(hash.Sum(nil)); err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	<-conn.Context().Done()
	return nil
}

// run sends so many bytes, in as many parts, and does what is between them.
func (x *transfer) run(t *testing.T, bytes int, between func(part int)) {
	t.Helper()
	const parts = 4
	_ = x.stream.SetDeadline(time.Now().Add(patience))
	rng := rand.NewChaCha8([32]byte{1})
	hash := sha256.New()
	for part := range parts {
		b := make([]byte, bytes/parts)
		_, _ = rng.Read(b)
		hash.Write(b)
		if _, err := x.stream.Write(b); err != nil {
			t.Fatal(err)
		}
		between(part)
	}
	if err := x.stream.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(x.stream)
	if err != nil || string(got) != string(hash.Sum(nil)) {
		t.Fatalf("the receiver has % x, sent % x: %v", got, hash.Sum(nil), err)
	}
}

func TestQUIC(t *testing.T) {
	// Held back, lost and doubled; and what is bigger than a path of 1350 bytes vanishes.
	hostile := Direction{
		Delay: 5 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.02, Reorder: 0.02, Duplicate: 0.02,
		Rate: 50e6, BlackHole: 1350,
	}
	profiles := []Profile{profiles[Veth], profiles[VethCut], profiles[WAN], {Name: "hostile", Forward: hostile, Back: hostile, Seed: 5}}
	for _, p := range profiles {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			lab := buildLab(t, p)
			for _, addrs := range [][2]netip.Addr{{lab.Receiver.Addr, lab.Sender.Addr}, {lab.Receiver.Addr6, lab.Sender.Addr6}} {
				if addrs[0].IsValid() {
					newTransfer(t, lab, addrs).run(t, 1<<19, func(int) {})
				}
			}
			s, err := lab.Stats()
			if err != nil || s.Forward.Passed == 0 || s.Back.Passed == 0 {
				t.Errorf("%+v, %v", s, err)
			}
			t.Logf("%s: %+v", lab.Emulator, s)
		})
	}
}

// TestQUICRebinds has the client's port and address change in a transfer.
func TestQUICRebinds(t *testing.T) {
	lab := buildLab(t, Profile{NAT: true})
	x := newTransfer(t, lab, [2]netip.Addr{lab.Receiver.Addr, lab.Sender.Addr})
	x.run(t, 1<<20, func(part int) {
		if part > 1 {
			return
		}
		if err := lab.Rebind([]Rebinding{RebindPort, RebindAddress}[part]); err != nil {
			t.Error(err)
		}
	})
	if at := (<-x.seen).(*net.UDPAddr).AddrPort().Addr(); at != natHome4.Next() {
		t.Errorf("the server saw the client at %v last", at)
	}
}
