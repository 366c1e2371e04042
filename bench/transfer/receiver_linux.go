package transfer

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/udp"
)

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Receiver string `json:"receiver"`
}

// ready is the first line that a receiver process prints.
type ready struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// The requests of a run: the bodies to /warm are not measured, /begin ends that,
// and those to /body are.
const (
	pathWarm  = "/warm"
	pathBegin = "/begin"
	pathBody  = "/body"
)

// A meter is the handler, and measures.
type meter struct {
	mu    sync.Mutex
	began proc.Usage
	at    time.Time
	res   result
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == pathBegin {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.began, m.at = proc.Used(), time.Now()
		return
	}
	buf := make([]byte, 64<<10)
	var n int64
	var err error
	for err == nil {
		var k int
		k, err = r.Body.Read(buf)
		n += int64(k)
	}
	if r.URL.Path != pathBody {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.res.Bytes += n
	if errors.Is(err, io.EOF) {
		m.res.Whole++
	}
	used := proc.Used()
	m.res.CPU, m.res.Allocs = used.CPU-m.began.CPU, used.Allocs-m.began.Allocs
	m.res.Seconds = time.Since(m.at).Seconds()
	w.WriteHeader(http.StatusNoContent)
}

// receive serves until a line comes on in, and reports on out: first its address,
// then a result.
func receive(c receiverConfig, newCert func() (tls.Certificate, error), in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	m := &meter{}
	addr, err := serve(c.Receiver, newCert, m)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	if err := enc.Encode(ready{Addr: addr}); err != nil {
		return err
	}
	_, _ = bufio.NewReader(in).ReadString('\n')
	m.mu.Lock()
	defer m.mu.Unlock()
	return enc.Encode(m.res)
}

// receiveBuffer is what every receiver asks for, the same as quic-go does.
const receiveBuffer = 7 << 20

// serve starts a receiver, which lives as long as the process.
func serve(receiver string, newCert func() (tls.Certificate, error), handler http.Handler) (addr string, err error) {
	cert, err := newCert()
	if err != nil {
		return "", err
	}
	tlsConf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{tailfin.NextProto}}
	if receiver == Stock {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return "", err
		}
		s := &http3.Server{Handler: handler, TLSConfig: tlsConf}
		go func() { _ = s.Serve(conn) }()
		return conn.LocalAddr().String(), nil
	}
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_ = conn.SetReadBuffer(receiveBuffer)
	s := &tailfin.Server{Handler: handler, TLSConfig: tlsConf, DisableDrain: receiver == DrainOff, Logger: slog.New(slog.DiscardHandler)}
	go func() { _ = s.Serve(conn) }()
	return conn.LocalAddr().String(), nil
}
