package uploads

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/udp"
)

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Receiver string     `json:"receiver"`
	Addr     netip.Addr `json:"addr"`    // to listen on
	Storage  string     `json:"storage"` // empty is to answer, see below
	Answer   int        `json:"answer"`
	Dir      string     `json:"dir"`
	GOGC     int        `json:"gogc"`
	Profile  string     `json:"profile"` // a file; empty is none
}

// ready is the first line that a receiver process prints.
type ready struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// A request for one of these begins what is measured, ends it and returns the usage, or
// does nothing. All others are to be measured.
const (
	pathHello = "/hello"
	pathBegin = "/begin"
	pathEnd   = "/end"
)

// A meter is the handler, and measures.
type meter struct {
	handler  http.Handler
	requests atomic.Int64
	bytes    atomic.Int64 // of bodies, where the handler counts them

	mu    sync.Mutex
	began usage
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case pathHello, pathBegin, pathEnd:
		_ = json.NewEncoder(w).Encode(m.measure(r.URL.Path))
	default:
		// Counted before it is answered, so that the sender, who has all answers when it
		// asks, finds all counted.
		m.requests.Add(1)
		m.handler.ServeHTTP(w, r)
	}
}

// measure is what a request for one of the paths above does.
func (m *meter) measure(path string) (used usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch path {
	case pathBegin:
		m.began = m.now()
	case pathEnd:
		used = m.now().since(m.began)
	}
	return used
}

func (m *meter) now() usage {
	used := proc.Used()
	return usage{CPU: used.CPU, Allocs: used.Allocs, Requests: m.requests.Load(), Bytes: m.bytes.Load()}
}

// answer is a handler for Requests: it reads what there is of a body, and answers.
func (m *meter) answer(bytes int) http.HandlerFunc {
	text := answerText(bytes)
	return func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m.bytes.Add(n)
		w.Header().Set("Content-Type", "text/plain") // no server has to guess
		_, _ = w.Write(text)
	}
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
	if c.Storage == "" {
		m.handler = m.answer(c.Answer)
	} else if m.handler, err = newHandler(c.Receiver, c.Storage, c.Dir); err != nil {
		return "", err
	}
	return serve(c.Receiver, netip.AddrPortFrom(c.Addr, 0), cert, m)
}

// receiveBuffer is what every receiver asks for, the same as quic-go does.
const receiveBuffer = 7 << 20

// serve starts a server.
func serve(receiver string, at netip.AddrPort, cert tls.Certificate, handler http.Handler) (addr string, err error) {
	tlsConf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{tailfin.NextProto}}
	if receiver == Stock {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return "", err
		}
		s := &http3.Server{Handler: handler, TLSConfig: tlsConf, QUICConfig: &quic.Config{}}
		go func() { _ = s.Serve(conn) }()
		return conn.LocalAddr().String(), nil
	}
	conn, err := udp.Listen("udp", at.String())
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
