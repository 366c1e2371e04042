package takeover

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/udp"
)

// envInstance makes the test binary an instance, with this configuration.
const envInstance = "TAILFIN_TEST_INSTANCE"

func TestMain(m *testing.M) {
	if conf := os.Getenv(envInstance); conf != "" {
		if err := runInstance(conf); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// settings are an instance's.
type settings struct {
	Address  string
	Shards   int
	Takeover bool
	Steering bool
	Cert     [][]byte
	Key      []byte
	Grace    time.Duration
	Hold     bool // not to be ready before a line comes on stdin
	Verbose  bool

	prepare func(*quic.Transport)
}

// instance is a server that hands over, as the daemon is.
type instance struct {
	l      *Listener
	server *tailfin.Server
	reg    *prometheus.Registry
	served sync.WaitGroup
	grace  time.Duration
	end    func() error
}

// open listens and serves, and is not ready.
func open(s settings, cert tls.Certificate) (*instance, error) {
	log := slog.New(slog.DiscardHandler)
	if s.Verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("instance", os.Getpid())
	}
	in := &instance{reg: prometheus.NewRegistry(), grace: s.Grace}
	in.end = sync.OnceValue(in.finish)
	l, err := Listen(context.Background(), Config{
		Network: "udp", Address: s.Address, Shards: s.Shards, Takeover: s.Takeover, Logger: log, Metrics: in.reg,
		Options: []udp.Option{udp.WithSteering(s.Steering)},
	})
	if err != nil {
		return nil, err
	}
	in.l = l
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	l.Tickets(conf)
	in.server = &tailfin.Server{
		Handler: handler(l.own), TLSConfig: conf, Logger: log, QUICConfig: &quic.Config{MaxIdleTimeout: time.Minute, HandshakeIdleTimeout: 30 * time.Second},
		MaxConns: -1, MaxConnsPerAddr: -1,
	}
	for _, t := range l.Transports() {
		if s.prepare != nil {
			s.prepare(t)
		}
		in.served.Go(func() { _ = in.server.ServeTransport(t) })
	}
	return in, nil
}

// handler answers with the generation of the instance, and with what it was sent.
func handler(generation uint8) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %d %s", generation, n, hex.EncodeToString(sum.Sum(nil)))
	})
}

// finish ends it as the daemon does.
func (in *instance) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), in.grace)
	defer cancel()
	err := in.server.Shutdown(ctx)
	err = errors.Join(err, in.l.Close(ctx))
	in.served.Wait()
	return err
}

// counts are the metrics, by name and label.
func (in *instance) counts() map[string]float64 {
	out := make(map[string]float64)
	families, err := in.reg.Gather()
	if err != nil {
		return nil
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[strings.TrimPrefix(name, "tailfin_takeover_")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// runInstance is an instance's process. It ends when it is superseded, or with its
// stdin.
func runInstance(conf string) error {
	var s settings
	if err := json.Unmarshal([]byte(conf), &s); err != nil {
		return err
	}
	cert, err := certOf(s)
	if err != nil {
		return err
	}
	in, err := open(s, cert)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	if s.Hold {
		fmt.Println("bound")
		lines.Scan()
	}
	if err := in.l.Ready(context.Background()); err != nil {
		return err
	}
	kernel, _ := in.l.Shards().Steering()
	fmt.Println("ready", in.l.Addr(), in.l.own, kernel)
	orphan := make(chan struct{})
	go func() {
		for lines.Scan() {
		}
		close(orphan)
	}()
	select {
	case <-in.l.Superseded():
		fmt.Println("superseded")
	case <-orphan:
	}
	if err := in.end(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(in.counts())
}

// A process is an instance in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string
	exited chan struct{}
	err    error

	addr       string
	generation int
	steers     bool
	counts     map[string]float64
}

// spawn starts one.
func spawn(t *testing.T, s settings) *process {
	t.Helper()
	cert := testCert(t)
	s.Cert, s.Key = cert.Certificate, keyBytes(t, cert)
	s.Verbose = testing.Verbose()
	if s.Grace == 0 {
		s.Grace = 2 * time.Minute
	}
	conf, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 100), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), envInstance+"="+string(conf))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		in := bufio.NewScanner(stdout)
		for in.Scan() {
			if line := in.Text(); strings.HasPrefix(line, "{") {
				_ = json.Unmarshal([]byte(line), &p.counts)
				continue
			}
			p.lines <- in.Text()
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// start spawns one and waits until it is ready.
func start(t *testing.T, s settings) *process {
	t.Helper()
	p := spawn(t, s)
	p.ready()
	return p
}

func (p *process) ready() {
	p.t.Helper()
	line := p.expect("ready")
	if _, err := fmt.Sscanf(line, "ready %s %d %t", &p.addr, &p.generation, &p.steers); err != nil {
		p.t.Fatal(line, err)
	}
}

// expect waits for a line.
func (p *process) expect(prefix string) string {
	p.t.Helper()
	select {
	case line := <-p.lines:
		if !strings.HasPrefix(line, prefix) {
			p.t.Fatalf("process %d: %q, want %q", p.cmd.Process.Pid, line, prefix)
		}
		return line
	case <-p.exited:
		p.t.Fatalf("process %d has ended (%v), want %q", p.cmd.Process.Pid, p.err, prefix)
	case <-time.After(time.Minute):
		p.t.Fatalf("process %d: no %q", p.cmd.Process.Pid, prefix)
	}
	return ""
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// ended waits for the process to end by itself, in good order.
func (p *process) ended() {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		p.t.Fatalf("process %d does not end", p.cmd.Process.Pid)
	}
	if p.err != nil {
		p.t.Errorf("process %d: %v", p.cmd.Process.Pid, p.err)
	}
}

var certOnce = sync.OnceValues(func() (tls.Certificate, error) { return devcert.New("127.0.0.2") })
