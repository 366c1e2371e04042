package tailfin

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/udp"
)

// A server on several sockets, one Transport each, whose datagrams are steered by
// connection ID.
func ExampleServer_ServeTransport() {
	serverTLS, clientTLS := exampleCert()
	shards, err := udp.ListenShards("udp", "127.0.0.1:0", 2)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = shards.Close() }()
	server := &Server{TLSConfig: serverTLS, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "by one of the shards")
	})}
	defer func() { _ = server.Close() }()
	for i, conn := range shards.Conns() {
		tr := &quic.Transport{Conn: conn, ConnectionIDGenerator: shards.ConnectionIDs(i)}
		defer func() { _ = tr.Close() }()
		go func() { _ = server.ServeTransport(tr) }()
	}

	transport := &Transport{TLSClientConfig: clientTLS}
	defer func() { _ = transport.Close() }()
	client := &http.Client{Transport: transport}
	resp, err := client.Get("https://" + shards.Conns()[0].LocalAddr().String() + "/")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: by one of the shards
}

// A server for the open internet: its limits are on by default, the times are for
// its owner to say.
func ExampleServer_limits() {
	server := &Server{
		MaxConnsPerAddr:   100,
		MaxHeaderBytes:    64 << 10,
		ReadHeaderTimeout: 5 * time.Second,
		BodyIdleTimeout:   10 * time.Second,
		RequestTimeout:    time.Minute,
		IdleTimeout:       5 * time.Minute,
	}
	stats := server.Stats()
	fmt.Println(stats.ConnsRefused, stats.HeadTimeouts, stats.RapidResets)
	// Output: 0 0 0
}

// A server for HTTP/1 and HTTP/2 tells its clients of the one for HTTP/3.
func ExampleServer_SetAltSvcHeader() {
	h3 := &Server{Port: 443}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = h3.SetAltSvcHeader(w.Header()) // fails while h3 does not listen
		fmt.Println(w.Header().Get("Alt-Svc"))
	})
	tcp := &http.Server{Addr: ":443", Handler: handler, ReadHeaderTimeout: time.Second}
	tcp.Handler.ServeHTTP(httptest.NewRecorder(), nil)
	// Output: h3=":443"; ma=2592000
}

// A handler that answers each datagram of a tunnel, as a proxy for UDP does
// (RFC 9298).
func ExampleDatagramsOf() {
	server := &Server{
		EnableDatagrams:       true,
		EnableExtendedConnect: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect || r.Proto != "connect-udp" {
				http.Error(w, "connect-udp is all there is", http.StatusNotImplemented)
				return
			}
			datagrams, err := DatagramsOf(w)
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotImplemented)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // the tunnel is open
			for {
				p, err := datagrams.ReceiveDatagram(r.Context())
				if err != nil {
					return // the client has ended the tunnel
				}
				if err := datagrams.SendDatagram(p); err != nil {
					return
				}
			}
		}),
	}
	fmt.Println(server.EnableDatagrams)
	// Output: true
}
