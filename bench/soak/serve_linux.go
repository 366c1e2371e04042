package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// The times of a serve process.
const (
	readyTimeout  = time.Minute
	scrapeTimeout = 15 * time.Second // more than it is ever stopped for
	// grace is what a process has for the requests at work when another takes over. The
	// slowest of the load take less.
	grace = 90 * time.Second
	// exitTimeout is within which it must have ended after that.
	exitTimeout = grace + 30*time.Second
)

// A server is a `tailfin serve` process.
type server struct {
	number int
	cmd    *exec.Cmd
	log    *log
	ready  ready
	admin  *http.Client
	done   chan struct{} // closed once it has ended
	err    error         // how, after done
}

// A home is where the servers of a soak live.
type home struct {
	host    netlab.Host
	backend string
	root    string // has all that follows
	stored  string
	config  string
	certs   [2]string // key and chain
}

// newHome makes the files.
func newHome(host netlab.Host, root, backend string, cert tls.Certificate) (*home, error) {
	h := &home{host: host, backend: backend, root: root, stored: filepath.Join(root, "received"), config: filepath.Join(root, "tailfin.yaml")}
	if err := h.renew(cert); err != nil {
		return nil, err
	}
	return h, h.configure(0)
}

// renew writes a certificate, over the one that is there.
func (h *home) renew(cert tls.Certificate) error {
	key, chain, err := peer.WritePEM(h.root, cert)
	h.certs = [2]string{key, chain}
	return err
}

// configure writes a configuration, which is another one for each n.
func (h *home) configure(n int) error {
	text := fmt.Sprintf("max-body: %dMiB\naccess-log: errors\nhandshake-rate: 100\n", 100+n)
	return os.WriteFile(h.config, []byte(text), 0o600)
}

// misconfigure writes one that is wrong.
func (h *home) misconfigure() error {
	return os.WriteFile(h.config, []byte("max-body: plenty\nno-such-key: 1\n"), 0o600)
}

// start starts a server, on a port that it chooses unless it is to take over.
func (h *home) start(ctx context.Context, number int, takeOver string) (*server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{
		"serve", "--listen", net.JoinHostPort(h.host.Addr.String(), "0"), "--sink", "dir:" + h.stored, "--admin", "127.0.0.1:0", "--backend", h.backend,
		"--config", h.config, "--key", h.certs[0], "--cert", h.certs[1], "--grace", grace.String(), "--partial-keep", "3m",
	}
	if takeOver != "" {
		args[2] = takeOver
		args = append(args, "--takeover")
	}
	s := &server{number: number, cmd: exec.CommandContext(ctx, exe, args...), log: newLog(), done: make(chan struct{})}
	s.cmd.Stderr = s.log
	s.cmd.Dir = h.root
	process, err := proc.Start(s.cmd, proc.Place{CPU: proc.AnyCPU, Net: h.host.Net})
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		_, s.err = process.Output()
	}()
	select {
	case s.ready = <-s.log.ready:
	case <-s.done:
		return nil, fmt.Errorf("serve ended before it was ready: %w\n%s", s.err, s.log.tail())
	case <-ctx.Done():
		s.kill()
		return nil, context.Cause(ctx)
	case <-time.After(readyTimeout):
		s.kill()
		return nil, fmt.Errorf("serve was not ready within %v\n%s", readyTimeout, s.log.tail())
	}
	s.admin = &http.Client{Timeout: scrapeTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = h.host.Do(func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	return s, nil
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// kill ends it at once.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// gone tells whether it has ended.
func (s *server) gone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// sample reads what it holds.
func (s *server) sample(ctx context.Context) (sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ready.admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.admin.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("metrics: " + resp.Status)
	}
	one, err := readMetrics(resp.Body)
	if err != nil {
		return nil, err
	}
	kernel, err := readProc(s.pid())
	for name, v := range kernel {
		one[name] = v
	}
	return one, err
}

// await waits until it has ended by itself, as it must within some time, and says how it
// has ended if that is not well.
func (s *server) await(within time.Duration) error {
	s.admin.CloseIdleConnections()
	select {
	case <-s.done:
	case <-time.After(within):
		_ = s.signal(syscall.SIGQUIT) // which has it say where it is
		select {
		case <-s.done:
		case <-time.After(readyTimeout):
			s.kill()
		}
		return fmt.Errorf("serve %d did not end within %v\n%s", s.number, within, s.log.tail())
	}
	if s.err != nil {
		return fmt.Errorf("serve %d: %w\n%s", s.number, s.err, s.log.tail())
	}
	return nil
}

// hold stops it for a while, as a debugger or a hypervisor does.
func (s *server) hold(long time.Duration) error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(long)
	return s.signal(syscall.SIGCONT)
}

// leftovers are the files of unfinished uploads below a folder of what is stored, and those
// that were stored and not taken.
func leftovers(stored string) (list []string, err error) {
	err = filepath.WalkDir(stored, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(stored, path)
		if dir := filepath.Dir(rel); dir == ".uploads" && strings.HasSuffix(rel, ".json") {
			return nil // of complete ones: they are remembered for a while
		}
		list = append(list, rel)
		return nil
	})
	return list, err
}

// seconds is a duration as a flag has it.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
