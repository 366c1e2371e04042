package idle

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Receiver string     `json:"receiver"`
	Addr     netip.Addr `json:"addr"`
	Profile  string     `json:"profile"` // a file for the heap's profile; empty is none
}

// ready is the first line that a receiver process prints.
type ready struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// The lines that a receiver process takes. It answers each with a snapshot.
const (
	askMemory  = "memory"  // after what is dead has been collected and given back
	askCPU     = "cpu"     // at once
	askProfile = "profile" // askMemory, and writes the profile if there is to be one
)

// A snapshot is what a receiver process has at one time, as JSON.
type snapshot struct {
	Conns      int64   `json:"conns"` // accepted so far
	Heap       int64   `json:"heap"`  // bytes of live objects
	Stacks     int64   `json:"stacks"`
	RSS        int64   `json:"rss"` // of the process, in bytes
	Goroutines int     `json:"goroutines"`
	CPU        float64 `json:"cpu_s"`
	At         float64 `json:"at_s"` // of the process's clock
	Error      string  `json:"error"`
}

// idleTimeout is that of both sides: no connection ends while it is measured, though
// nothing keeps it alive.
const idleTimeout = time.Hour

// receive serves, and answers lines on in, until that of the end.
func receive(c receiverConfig, newCert func() (tls.Certificate, error), in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	began := time.Now()
	var conns atomic.Int64
	s, err := serve(c, newCert, &conns)
	if err != nil {
		return enc.Encode(ready{Error: err.Error()})
	}
	if err := enc.Encode(ready{Addr: s.Addr.String()}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var snap snapshot
		var err error
		switch lines.Text() {
		case askCPU:
			snap.CPU = proc.Used().CPU
		case askMemory:
			err = snap.memory()
		case askProfile:
			err = errors.Join(snap.memory(), writeProfile(c.Profile))
		default:
			return enc.Encode(snap)
		}
		if err != nil {
			snap.Error = err.Error()
		}
		snap.Conns, snap.At = conns.Load(), time.Since(began).Seconds()
		if err := enc.Encode(snap); err != nil {
			return err
		}
	}
	return nil
}

// serve starts the server, which counts its connections.
func serve(c receiverConfig, newCert func() (tls.Certificate, error), conns *atomic.Int64) (*servers.Server, error) {
	cert, err := newCert()
	if err != nil {
		return nil, err
	}
	return servers.Start(servers.Config{
		Name: c.Receiver, Addr: c.Addr, Cert: cert, QUIC: &quic.Config{MaxIdleTimeout: idleTimeout},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		ConnContext: func(ctx context.Context, _ *quic.Conn) context.Context {
			conns.Add(1)
			return ctx
		},
	})
}

// memory measures it. What is dead goes in the first collection, but for what a
// sync.Pool or a finalizer holds, which goes in the second.
func (s *snapshot) memory() error {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Heap, s.Stacks, s.Goroutines = int64(m.HeapAlloc), int64(m.StackInuse), runtime.NumGoroutine()
	var err error
	s.RSS, err = residentBytes()
	return err
}

// residentBytes is the RSS of this process, exactly: VmRSS of /proc/self/status may be
// some pages old (proc(5)).
func residentBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Rss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no Rss in smaps_rollup:\n%s", text)
}

// writeProfile writes what is in use on the heap.
func writeProfile(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}
