package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// NGTCP2Client finds ngtcp2's example client, with GnuTLS as Debian builds it.
func NGTCP2Client() (Program, error) {
	return findProgram("ngtcp2 client", "gtlsclient", "ngtcp2-client", packageVersion("ngtcp2-client"))
}

// NGTCP2Server finds ngtcp2's example server.
func NGTCP2Server() (Program, error) {
	return findProgram("ngtcp2 server", "gtlsserver", "ngtcp2-server", packageVersion("ngtcp2-server"))
}

// GetNGTCP2 requests paths from addr over one connection, until every stream
// is closed. More options of the program go before. It returns what the
// program says on standard error. It ends with success whatever happens to the
// requests (version 0.12.1), so look at what it received.
func GetNGTCP2(ctx context.Context, p Program, addr string, options []string, paths ...string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	args := append([]string{"--quiet", "--exit-on-all-streams-close"}, options...)
	args = append(args, host, port)
	for _, path := range paths {
		args = append(args, "https://"+addr+path)
	}
	_, stderr, err := p.run(ctx, args...)
	return stderr, err
}

// An NGTCP2Process is ngtcp2's server as a process.
type NGTCP2Process struct {
	addr   string
	cmd    *exec.Cmd
	out    *Output
	dir    string
	ended  chan struct{}
	stop   context.CancelFunc
	exited error // valid once ended is closed
}

// maxStart bounds how long a foreign server may take until it has its socket.
const maxStart = 10 * time.Second

// StartNGTCP2 serves the files of htdocs on a free port of host, which is an IP
// address. More options of the program go before.
func StartNGTCP2(p Program, host, htdocs string, cert tls.Certificate, options ...string) (*NGTCP2Process, error) {
	dir, err := os.MkdirTemp("", "tailfin-ngtcp2-")
	if err != nil {
		return nil, err
	}
	s, err := startNGTCP2(p, dir, host, htdocs, cert, options)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func startNGTCP2(p Program, dir, host, htdocs string, cert tls.Certificate, options []string) (*NGTCP2Process, error) {
	keyFile, certFile, err := WritePEM(dir, cert)
	if err != nil {
		return nil, err
	}
	// The program takes no port 0. Somebody else may get a port that was free
	// a moment ago, so that the start is tried again.
	var lastErr error
	for range 3 {
		port, err := freePort(host)
		if err != nil {
			return nil, err
		}
		s := &NGTCP2Process{
			addr: net.JoinHostPort(host, strconv.Itoa(port)), dir: dir,
			out: new(Output), ended: make(chan struct{}),
		}
		args := append([]string{"--quiet", "--htdocs=" + htdocs}, options...)
		args = append(args, host, strconv.Itoa(port), keyFile, certFile)
		ctx, stop := context.WithCancel(context.Background())
		s.stop = stop
		s.cmd = p.command(ctx, args...)
		s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
		if err := s.cmd.Start(); err != nil {
			stop()
			return nil, err
		}
		go func() {
			s.exited = s.cmd.Wait()
			close(s.ended)
		}()
		if lastErr = s.ready(); lastErr == nil {
			return s, nil
		}
		s.kill()
	}
	return nil, lastErr
}

// ready waits until the program has bound its socket: the address is taken.
func (s *NGTCP2Process) ready() error {
	for start := time.Now(); time.Since(start) < maxStart; {
		select {
		case <-s.ended:
			return fmt.Errorf("ngtcp2's server ended: %w\n%s", s.exited, tail(s.out.String()))
		case <-time.After(5 * time.Millisecond):
		}
		conn, err := net.ListenPacket("udp", s.addr)
		if err != nil {
			return nil
		}
		_ = conn.Close()
	}
	return errors.New("ngtcp2's server does not listen")
}

// Addr is the address that clients dial.
func (s *NGTCP2Process) Addr() string { return s.addr }

// Output is what the program has printed.
func (s *NGTCP2Process) Output() string { return s.out.String() }

func (s *NGTCP2Process) kill() {
	s.stop()
	<-s.ended
}

// Close ends the program.
func (s *NGTCP2Process) Close() error {
	s.kill()
	return os.RemoveAll(s.dir)
}

// freePort returns a UDP port of host that is free now.
func freePort(host string) (int, error) {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%v is no UDP address", conn.LocalAddr())
	}
	return addr.Port, nil
}

// WritePEM writes key and chain of a certificate into a folder, where a program can read them.
func WritePEM(dir string, cert tls.Certificate) (keyFile, certFile string, err error) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", "", err
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	keyFile, certFile = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
		return "", "", err
	}
	return keyFile, certFile, os.WriteFile(certFile, chain, 0o600)
}
