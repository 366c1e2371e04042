package uploads

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/udp"
)

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Receiver string `json:"receiver"`
	Storage  string `json:"storage"`
	Dir      string `json:"dir"`
	GOGC     int    `json:"gogc"`
	Profile  string `json:"profile"` // a file; empty is none
}

// ready is the first line that a receiver process prints.
type ready struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// A GET of one of these begins what is measured, ends it and returns the usage, or does
// nothing.
const (
	pathHello = "/hello"
	pathBegin = "/begin"
	pathEnd   = "/end"
)

// A meter is the handler, and measures.
type meter struct {
	store http.Handler

	mu    sync.Mutex
	began proc.Usage
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		m.store.ServeHTTP(w, r)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var used usage
	switch r.URL.Path {
	case pathBegin:
		m.began = proc.Used()
	case pathEnd:
		now := proc.Used()
		used = usage{CPU: now.CPU - m.began.CPU, Allocs: now.Allocs - m.began.Allocs}
	}
	_ = json.NewEncoder(w).Encode(used)
}

// receive serves until a line comes on in, and reports on out: first its address, in
// the end that it has ended.
func receive(c receiverConfig, newCert func() (tls.Certificate, error), newHandler NewHandler, in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	debug.SetGCPercent(c.GOGC)
	addr, err := start(c, newCert, newHandler)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	if c.Profile != "" {
		f, err := os.Create(c.Profile)
		if err != nil {
			return enc.Encode(ready{Error: err.Error()})
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return enc.Encode(ready{Error: err.Error()})
		}
		defer pprof.StopCPUProfile()
	}
	if err := enc.Encode(ready{Addr: addr}); err != nil {
		return err
	}
	_, _ = bufio.NewReader(in).ReadString('\n')
	return enc.Encode(ready{Addr: addr})
}

// start starts a receiver, which lives as long as the process.
func start(c receiverConfig, newCert func() (tls.Certificate, error), newHandler NewHandler) (addr string, err error) {
	cert, err := newCert()
	if err != nil {
		return "", err
	}
	m := &meter{}
	if m.store, err = newHandler(c.Receiver, c.Storage, c.Dir); err != nil {
		return "", err
	}
	return serve(c.Receiver, cert, m)
}

// receiveBuffer is what every receiver asks for, the same as quic-go does.
const receiveBuffer = 7 << 20

// serve starts a server.
func serve(receiver string, cert tls.Certificate, handler http.Handler) (addr string, err error) {
	tlsConf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{tailfin.NextProto}}
	if receiver == Stock {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return "", err
		}
		s := &http3.Server{Handler: handler, TLSConfig: tlsConf, QUICConfig: &quic.Config{}}
		go func() { _ = s.Serve(conn) }()
		return conn.LocalAddr().String(), nil
	}
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_ = conn.SetReadBuffer(receiveBuffer)
	s := &tailfin.Server{
		Handler: handler, TLSConfig: tlsConf, QUICConfig: &quic.Config{},
		DisableDrain: receiver == DrainOff, Logger: slog.New(slog.DiscardHandler),
	}
	go func() { _ = s.Serve(conn) }()
	return conn.LocalAddr().String(), nil
}
