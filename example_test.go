package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/udp"
)

// exampleCert is a certificate for loopback and a client configuration that
// trusts it. Programs load theirs with tls.LoadX509KeyPair.
func exampleCert() (server, client *tls.Config) {
	c, err := testCert()
	if err != nil {
		log.Fatal(err)
	}
	server = &tls.Config{Certificates: []tls.Certificate{c}}
	client = &tls.Config{InsecureSkipVerify: true}
	return server, client
}

// A server and a client over io_uring, where it may be used.
func Example() {
	serverTLS, clientTLS := exampleCert()
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server := &Server{
		TLSConfig: serverTLS,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s: %s", r.Proto, r.Method, body)
		}),
	}
	go func() { _ = server.Serve(conn) }()
	defer func() { _ = server.Close() }()

	transport := &Transport{TLSClientConfig: clientTLS}
	defer func() { _ = transport.Close() }()
	client := &http.Client{Transport: transport}
	resp, err := client.Post("https://"+conn.LocalAddr().String()+"/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer))
	// Output: HTTP/3.0 POST: hello
}

// A client that reports and leaves, and a server that loses nothing of it.
func ExampleTransport_SendAndClose() {
	serverTLS, clientTLS := exampleCert()
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	received := make(chan string)
	server := &Server{
		TLSConfig: serverTLS,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			received <- fmt.Sprintf("%d bytes, error %v", len(body), err)
		}),
	}
	go func() { _ = server.Serve(conn) }()
	defer func() { _ = server.Close() }()

	transport := &Transport{TLSClientConfig: clientTLS}
	defer func() { _ = transport.Close() }()
	req, err := http.NewRequest(http.MethodPut, "https://"+conn.LocalAddr().String()+"/report", strings.NewReader(strings.Repeat("x", 9000)))
	if err != nil {
		log.Fatal(err)
	}
	if err := transport.SendAndClose(req); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-received)
	// Output: 9000 bytes, error <nil>
}

// What an error says of the request it ended.
func ExampleProgressOf() {
	_, clientTLS := exampleCert()
	transport := &Transport{TLSClientConfig: clientTLS}
	defer func() { _ = transport.Close() }()
	req, err := http.NewRequest(http.MethodPost, "https://no-such-host.invalid/", strings.NewReader("pay"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = transport.RoundTrip(req)
	var dial *DialError
	progress, ok := ProgressOf(err)
	fmt.Println(ok, errors.As(err, &dial), progress.Phase, "retry safe:", progress.RetrySafe)
	// Output: true true before-wire retry safe: true
}

// The datagram path alone, under a quic-go program of your own.
func Example_quicgo() {
	serverTLS, clientTLS := exampleCert()
	serverTLS.NextProtos, clientTLS.NextProtos = []string{"example"}, []string{"example"}
	ctx := context.Background()

	conn, err := udp.Listen("udp", "127.0.0.1:0") // io_uring with GRO, or recvmmsg with GRO
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	tr := &quic.Transport{Conn: conn}
	defer func() { _ = tr.Close() }()
	ln, err := tr.Listen(serverTLS, nil)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		qc, err := quic.DialAddr(ctx, conn.LocalAddr().String(), clientTLS, nil)
		if err != nil {
			log.Fatal(err)
		}
		str, err := qc.OpenStreamSync(ctx)
		if err != nil {
			log.Fatal(err)
		}
		_, _ = io.WriteString(str, "over QUIC")
		_ = str.Close()
	}()
	qc, err := ln.Accept(ctx)
	if err != nil {
		log.Fatal(err)
	}
	str, err := qc.AcceptStream(ctx)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(str)
	if err != nil {
		log.Fatal(err)
	}
	_ = qc.CloseWithError(0, "")
	fmt.Println(string(text))
	// Output: over QUIC
}
