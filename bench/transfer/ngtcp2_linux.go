package transfer

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// A ngtcp2Sender uploads with ngtcp2's client: a process for each body.
type ngtcp2Sender struct {
	t       *turn
	program peer.Program
	addr    netip.AddrPort
	dir     string
}

func (t *turn) newNGTCP2Sender(addr string) (uploader, error) {
	program, err := peer.NGTCP2Client()
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	dir, err := t.tempDir()
	return &ngtcp2Sender{t, program, to, dir}, err
}

// tempDir makes a folder that goes with the turn.
func (t *turn) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "tailfin-transfer-")
	if err == nil {
		t.dirs = append(t.dirs, dir)
	}
	return dir, err
}

// zeroFile makes a file of zeros.
func zeroFile(dir, name string, size int64) (string, error) {
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return path, f.Truncate(size)
}

func (s *ngtcp2Sender) warm() error {
	_, err := s.put(pathWarm, warmEach(1, s.t.Bytes))
	return err
}

func (s *ngtcp2Sender) run() (sentReport, error) {
	report, err := s.put(pathBody, s.t.Bytes)
	report.Bytes, report.Bodies = s.t.Bytes, 1
	return report, err
}

func (s *ngtcp2Sender) put(path string, size int64) (report sentReport, err error) {
	file, err := zeroFile(s.dir, "body", size)
	if err != nil {
		return report, err
	}
	host, port := s.addr.Addr().String(), strconv.Itoa(int(s.addr.Port()))
	cmd := exec.CommandContext(s.t.ctx, s.program.Path, "--quiet", "--exit-on-all-streams-close", "--http-method=PUT", //nolint:gosec // the path comes from package peer
		"--data="+file, host, port, "https://"+s.addr.String()+path)
	var said peer.Output
	cmd.Stderr = &said
	began := time.Now()
	if _, err := proc.Start(cmd, s.t.at.sender); err != nil {
		return report, err
	}
	if err := cmd.Wait(); err != nil {
		return report, fmt.Errorf("%s: %w\n%s", s.program.Path, err, said.String())
	}
	report.Seconds = time.Since(began).Seconds()
	report.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return report, nil
}

// A ngtcp2Server is ngtcp2's server, as a process.
type ngtcp2Server struct {
	addr    netip.AddrPort
	pid     int
	htdocs  string
	began   float64
	beganAt time.Time
}

// startNGTCP2 starts it. Its folder has a file for each path that is asked for.
func (t *turn) startNGTCP2(addr netip.Addr, at proc.Place) (*ngtcp2Server, error) {
	program, err := peer.NGTCP2Server()
	if err != nil {
		return nil, err
	}
	dir, err := t.tempDir()
	if err != nil {
		return nil, err
	}
	key, cert, err := peer.WritePEM(dir, t.Cert)
	if err != nil {
		return nil, err
	}
	htdocs := filepath.Join(dir, "htdocs")
	if err := os.Mkdir(htdocs, 0o755); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &ngtcp2Server{addr: netip.AddrPortFrom(addr, port), htdocs: htdocs}
	// The windows are what quic-go has.
	cmd := exec.CommandContext(t.ctx, program.Path, "--quiet", "--htdocs="+htdocs, //nolint:gosec // likewise
		"--max-data=768K", "--max-stream-data-bidi-remote=512K", "--max-window=15M", "--max-stream-window=6M",
		addr.String(), strconv.Itoa(int(port)), key, cert)
	cmd.Stderr = new(peer.Output) // it says which folder it serves
	p, err := proc.Start(cmd, at)
	if err != nil {
		return nil, err
	}
	t.processes = append(t.processes, p)
	s.pid = cmd.Process.Pid
	return s, nil
}

// freePort is a UDP port that is free now. The program takes no port 0.
func freePort() (uint16, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	addr, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return addr.Port(), err
}

// begin notes what it has used so far.
func (s *ngtcp2Server) begin() (err error) {
	s.beganAt = time.Now()
	s.began, err = ranFor(s.pid)
	return err
}

// used is what it has used since.
func (s *ngtcp2Server) used() (cpu float64, err error) {
	now, err := ranFor(s.pid)
	return now - s.began, err
}

// ranFor is the processor time of a process with one thread, by the scheduler, in
// seconds: the first figure of schedstat, in nanoseconds.
func ranFor(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	return float64(ns) / 1e9, err
}

// A ngtcp2Receiver is ngtcp2's server as the receiver of uploads. It answers once it
// has read the whole body (without --early-response), and so what was answered was
// received.
type ngtcp2Receiver struct{ *ngtcp2Server }

func (t *turn) startNGTCP2Receiver() (server, string, error) {
	s, err := t.startNGTCP2(t.lab.Receiver.Addr, t.at.receiver)
	if err != nil {
		return nil, "", err
	}
	for _, path := range []string{pathWarm, pathBody} {
		if _, err := zeroFile(s.htdocs, path, 1); err != nil {
			return nil, "", err
		}
	}
	return &ngtcp2Receiver{s}, s.addr.String(), nil
}

func (r *ngtcp2Receiver) done(sent sentReport) (received, error) {
	cpu, err := r.used()
	return received{Bytes: sent.Bytes, Whole: sent.Bodies, Seconds: sent.Seconds, CPU: cpu}, err
}

// A ngtcp2Source is ngtcp2's server as the sender of downloads.
type ngtcp2Source struct{ *ngtcp2Server }

func (t *turn) newNGTCP2Source() (source, error) {
	s, err := t.startNGTCP2(t.lab.Sender.Addr, t.at.sender)
	if err != nil {
		return nil, err
	}
	_, err = zeroFile(s.htdocs, pathBody, t.Bytes)
	return &ngtcp2Source{s}, err
}

func (s *ngtcp2Source) url() string { return "https://" + s.addr.String() + pathBody }
func (s *ngtcp2Source) sized() bool { return false }

func (s *ngtcp2Source) sent() (report sentReport, err error) {
	report.Seconds = time.Since(s.beganAt).Seconds()
	report.CPU, err = s.used()
	return report, err
}
