package tailfin

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

func greet(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// shortIDs is a connection ID generator of an embedder's own.
type shortIDs struct{ made chan struct{} }

func (g shortIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	select {
	case g.made <- struct{}{}:
	default:
	}
	id := make([]byte, g.ConnectionIDLen())
	_, err := rand.Read(id)
	return quic.ConnectionIDFromBytes(id), err
}

func (shortIDs) ConnectionIDLen() int { return 4 }

// TestServeTransport serves on a transport that the server has not made, twice: it
// must be good for another Server after the first.
func TestServeTransport(t *testing.T) {
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ids := shortIDs{make(chan struct{}, 1)}
	tr := &quic.Transport{Conn: conn, ConnectionIDGenerator: ids}
	defer func() {
		_ = tr.Close()
		_ = conn.Close()
	}()
	for range 2 {
		server := &Server{Handler: http.HandlerFunc(greet), TLSConfig: serverTLS(t), Logger: quietLog}
		served := make(chan error, 1)
		go func() { served <- server.ServeTransport(tr) }()
		want(t, fetch(t, conn.LocalAddr().String()), "hello")
		<-ids.made
		want(t, server.Shutdown(timeout(t)), nil)
		want(t, <-served, ErrServerClosed)
	}
	want(t, (&Server{}).ServeTransport(tr), errNoTLSConfig)
}

// TestServeConn shares a listener between HTTP/3 and another protocol.
func TestServeConn(t *testing.T) {
	server := &Server{Handler: http.HandlerFunc(greet), TLSConfig: serverTLS(t), Logger: quietLog}
	tlsConf, quicConf, err := server.ListenConfig()
	if err != nil {
		t.Fatal(err)
	}
	tlsConf.NextProtos = append(slices.Clone(tlsConf.NextProtos), "other")
	ln, err := quic.ListenAddr("127.0.0.1:0", tlsConf, quicConf)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	barriers := make(chan bool, 1)
	go func() {
		for {
			qc, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			if qc.ConnectionState().TLS.NegotiatedProtocol == "other" {
				_ = qc.CloseWithError(7, "")
				continue
			}
			go func() {
				_, barrier := qc.QlogTrace().(*barrier)
				barriers <- barrier
				served <- server.ServeConn(qc)
			}()
		}
	}()
	addr := ln.Addr().String()
	c := newRawClient(t, addr)
	_, body, err := answer(t, c.send(t, get("/")))
	want(t, body, "hello")
	want(t, err, nil)
	want(t, <-barriers, true)
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
	want(t, <-served, nil)

	c = newRawClient(t, addr)
	c.settings(t)
	<-barriers
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeInternal), "")
	wantAs(t, <-served, func(e *ConnClosed) bool { return e.Remote && e.Code == uint64(h3frame.ErrCodeInternal) })

	other := clientTLS(t)
	other.ServerName, other.NextProtos = "localhost", []string{"other"}
	qc, err := quic.DialAddr(timeout(t), addr, other, nil)
	if err == nil {
		<-qc.Context().Done()
		err = context.Cause(qc.Context())
	}
	var closed *quic.ApplicationError
	want(t, errors.As(err, &closed) && closed.ErrorCode == 7, true)

	c = newRawClient(t, addr)
	c.settings(t)
	<-barriers
	want(t, server.Shutdown(timeout(t)), nil) // which sees to connections of any listener
	wantConnClosed(t, c, h3frame.ErrCodeNoError)
	want(t, <-served, nil)
}

func TestServeConnAfterShutdown(t *testing.T) {
	server := &Server{}
	want(t, server.Close(), nil)
	want(t, server.ServeConn(nil), ErrServerClosed)
	_, _, err := server.ListenConfig()
	want(t, err, errNoTLSConfig)
}
