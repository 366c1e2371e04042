package transfer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

// serverConfig is what a process with a server is told: the receiver of uploads, or
// the sender of downloads.
type serverConfig struct {
	Server string     `json:"server"` // of package servers
	Addr   netip.Addr `json:"addr"`
	Shards int        `json:"shards"`

	OpenWindows bool `json:"open_windows"`
	OwnSession  bool `json:"own_session"` // see ownSession

	Profile string `json:"profile"` // a file for the profile of what is measured; empty is none
}

// ready is the first line that a process with a server prints.
type ready struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// The requests of a turn: the bodies put to /body are measured, others are not; a GET
// of /bytes/N is answered with N bytes.
const (
	pathWarm  = "/warm"
	pathBody  = "/body"
	pathBytes = "/bytes/"
)

// The lines that processes take, beside that of the end.
const (
	askWarm  = "warm"  // connections are made and used
	askBegin = "begin" // what follows is measured
	askRun   = "run"   // the bodies, to their end
	askDone  = "done"  // what was measured
)

// A meter is the handler of a server, and measures.
type meter struct {
	server *servers.Server

	mu       sync.Mutex
	conns    []*quic.Conn
	began    proc.Usage
	packets  uint64 // when it began
	read     [2]uint64
	firstAt  time.Time // of the first body; zero before
	received received
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n, ok := strings.CutPrefix(r.URL.Path, pathBytes); ok {
		writeBytes(w, n)
		return
	}
	measured := r.URL.Path == pathBody
	if measured {
		m.first()
	}
	n, err := discard(r.Body)
	if measured {
		m.last(n, errors.Is(err, io.EOF))
	}
	w.WriteHeader(http.StatusNoContent)
}

// discard reads a body to its end, which is err.
func discard(body io.Reader) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for err == nil {
		var k int
		k, err = body.Read(buf)
		n += int64(k)
	}
	return n, err
}

// writeBytes answers with as many zeros as n says.
func writeBytes(w http.ResponseWriter, n string) {
	size, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", n)
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(zeros{}, size), make([]byte, 64<<10))
}

// zeros is a body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// begin has what follows be measured.
func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received, m.firstAt = received{}, time.Time{}
	m.packets = m.count()
	m.read[0], m.read[1] = m.server.Read()
	m.began = proc.Used()
}

// count sums the packets that the connections have received. The caller holds mu.
func (m *meter) count() (n uint64) {
	for _, c := range m.conns {
		n += c.ConnectionStats().PacketsReceived
	}
	return n
}

// first notes when the first body begins.
func (m *meter) first() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.firstAt.IsZero() {
		m.firstAt = time.Now()
	}
}

// last notes the end of a body, which may be that of all.
func (m *meter) last(n int64, whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.received
	r.Bytes += n
	if whole {
		r.Whole++
	}
	used := proc.Used()
	r.CPU, r.Allocs = used.CPU-m.began.CPU, used.Allocs-m.began.Allocs
	r.Seconds = time.Since(m.firstAt).Seconds()
}

// done returns what was measured.
func (m *meter) done() received {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received.Packets = m.count() - m.packets
	if datagrams, receives := m.server.Read(); receives > m.read[1] {
		m.received.Train = float64(datagrams-m.read[0]) / float64(receives-m.read[1])
	}
	return m.received
}

// runServer is the role of a process with a server.
func runServer(c serverConfig, newCert func() (tls.Certificate, error), in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	if c.OwnSession {
		ownSession()
	}
	cert, err := newCert()
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	m := &meter{}
	m.server, err = servers.Start(servers.Config{Name: c.Server, Addr: c.Addr, Shards: c.Shards, Cert: cert, Handler: m, OpenWindows: c.OpenWindows,
		ConnContext: func(ctx context.Context, conn *quic.Conn) context.Context {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.conns = append(m.conns, conn)
			return ctx
		}})
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	if err := enc.Encode(ready{Addr: m.server.Addr.String()}); err != nil {
		return err
	}
	began, used := time.Now(), proc.Usage{}
	return answer(in, out, func(line string) (any, bool) {
		switch line {
		case askBegin:
			err := startProfile(c.Profile)
			m.begin()
			began, used = time.Now(), proc.Used()
			return received{Error: text(err)}, true
		case askDone:
			pprof.StopCPUProfile()
			return m.done(), true
		case askSent: // as the sender of downloads
			return sentReport{Seconds: time.Since(began).Seconds(), CPU: proc.Used().CPU - used.CPU}, true
		}
		return received{}, false
	})
}

// startProfile has a profile be written to a file, if there is to be one.
func startProfile(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f)
}

// askSent asks a server that sends what it has used since it was told to begin.
const askSent = "sent"
