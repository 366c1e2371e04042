package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/closerace"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// asTailfin makes the test binary behave as the program.
const asTailfin = "TAILFIN_TEST_AS_PROGRAM"

// confine puts the program under test below what a test says in its environment; nil
// where there is nothing of the kind.
var confine func() error

func TestMain(m *testing.M) {
	if os.Getenv(asTailfin) != "" {
		if confine != nil {
			if err := confine(); err != nil {
				fmt.Fprintln(os.Stderr, "confine:", err)
				os.Exit(exitFailed)
			}
		}
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// program is a command line of tailfin.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), asTailfin+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
}

func runTailfin(t *testing.T, args ...string) result {
	t.Helper()
	cmd := program(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// daemon is a `tailfin serve` that runs until the test ends.
type daemon struct {
	cmd   *exec.Cmd
	ready chan string // its address, once
	addr  string
	dir   string
	log   *peer.Output
	done  chan struct{} // closed when all of the log was read
}

var readyLine = regexp.MustCompile(`^ready listen=(\S+) backend=(\S+) `)

func serve(t *testing.T, args ...string) *daemon {
	t.Helper()
	return serveAs(t, func(*exec.Cmd) {}, args...)
}

// serveAs has prepare change the command before it is started.
func serveAs(t *testing.T, prepare func(*exec.Cmd), args ...string) *daemon {
	t.Helper()
	d := launch(t, prepare, args...)
	d.awaitReady(t)
	return d
}

// launch is serveAs that does not wait until the daemon is ready.
func launch(t *testing.T, prepare func(*exec.Cmd), args ...string) *daemon {
	t.Helper()
	d := &daemon{ready: make(chan string, 1), dir: filepath.Join(t.TempDir(), "received"), log: &peer.Output{}, done: make(chan struct{})}
	d.cmd = program(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--sink", "dir:" + d.dir}, args...)...)
	prepare(d.cmd)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				d.ready <- m[1]
			}
			fmt.Fprintln(d.log, lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.done
		_ = d.cmd.Wait()
	})
	return d
}

// awaitReady waits until a daemon that was launched says so.
func (d *daemon) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case d.addr = <-d.ready:
	case <-d.done:
		t.Fatalf("serve ended before it was ready:\n%s", d.log)
	case <-time.After(20 * time.Second):
		t.Fatalf("serve is not ready:\n%s", d.log)
	}
}

// stop sends SIGTERM and waits for the program to end. It returns what was used.
func (d *daemon) stop(t *testing.T) *os.ProcessState {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-d.done
	state, err := d.cmd.Process.Wait()
	if err != nil || state.ExitCode() != exitOK {
		t.Fatalf("serve ended with %v, %v:\n%s", state, err, d.log)
	}
	return state
}

func writeFile(t *testing.T, size int) (path, sum string) {
	t.Helper()
	body := peer.Pattern(size)
	path = filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(body)
	return path, hex.EncodeToString(h[:])
}

// serveBackends are the backends that --backend takes by name here.
func serveBackends(t *testing.T) []string {
	list := []string{"mmsg", "msg"}
	if r := runTailfin(t, "doctor", "--json"); strings.Contains(r.stdout, `"backend":"uring"`) || strings.Contains(r.stdout, `"backend": "uring"`) {
		return append(list, "uring")
	}
	t.Log("without io_uring, as doctor says")
	return list
}

func TestPutAndGet(t *testing.T) {
	for _, backend := range serveBackends(t) {
		t.Run(backend, func(t *testing.T) {
			d := serve(t, "--backend", backend)
			file, sum := writeFile(t, 5<<20)
			url := "https://" + d.addr + "/"
			if r := runTailfin(t, "put", file, url, "--insecure", "--backend", backend); r.code != exitOK || !strings.Contains(r.stdout, "201") {
				t.Fatalf("put: %+v", r)
			}
			r := runTailfin(t, "get", url+"report", "--insecure", "--json", "--backend", backend)
			var got client.Downloaded
			if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
				t.Fatalf("get: %+v: %v", r, err)
			}
			if r.code != exitOK || got.SHA256 != sum || !got.Complete || got.Bytes != 5<<20 || got.Status != 200 {
				t.Fatalf("get: exit %d, %+v", r.code, got)
			}
			copied := filepath.Join(t.TempDir(), "copy")
			if r := runTailfin(t, "get", url+"report", "--insecure", "-o", copied); r.code != exitOK {
				t.Fatalf("get -o: %+v", r)
			}
			b, err := os.ReadFile(copied)
			if h := sha256.Sum256(b); err != nil || hex.EncodeToString(h[:]) != sum {
				t.Fatalf("get -o wrote %d other bytes, %v", len(b), err)
			}
			d.stop(t)
			if log := d.log.String(); !strings.Contains(log, "msg=stopped") {
				t.Fatalf("no closing line:\n%s", log)
			}
		})
	}
}

func TestPutCloseAfterFIN(t *testing.T) {
	d := serve(t)
	file, sum := writeFile(t, 9000)
	const uploads = 40
	r := runTailfin(t, "put", file, "https://"+d.addr+"/last", "--insecure", "--close-after-fin", "--count", fmt.Sprint(uploads))
	if r.code != exitOK {
		t.Fatalf("put: %+v", r)
	}
	d.stop(t) // lets every upload come to its end
	for i := 1; i <= uploads; i++ {
		b, err := os.ReadFile(filepath.Join(d.dir, fmt.Sprintf("last-%d", i)))
		if h := sha256.Sum256(b); err != nil || hex.EncodeToString(h[:]) != sum {
			t.Fatalf("upload %d: %d bytes, %v\n%s", i, len(b), err, d.log)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(d.dir, ".incoming")); len(left) != 0 {
		t.Fatalf("unfinished files left: %v", left)
	}
}

func TestGetFromClosingServer(t *testing.T) {
	cert, err := devcert.New()
	if err != nil {
		t.Fatal(err)
	}
	server, err := peer.ListenXNet("127.0.0.1:0", cert, peer.XNetOptions{CloseAfterResponse: true, Delay: 10 * time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, devcert.PEM(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runTailfin(t, "get", "https://"+server.Addr()+"/bytes/9000", "--cacert", ca, "--count", "50", "--json")
	if n := strings.Count(r.stdout, `"complete":true`); r.code != exitOK || n != 50 {
		t.Fatalf("%d of 50 whole, exit %d\n%s%s", n, r.code, r.stdout, r.stderr)
	}
}

// TestBadInput has what a user gets wrong: the message names the flag, the
// cause and the remedy, and the exit code is 2.
func TestBadInput(t *testing.T) {
	file, _ := writeFile(t, 10)
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, tc := range []struct {
		args []string
		want []string // parts of stderr
	}{
		{[]string{"serve", "--listen", "nonsense"}, []string{"--listen", "nonsense", "HOST:PORT"}},
		{[]string{"serve", "--listen", "127.0.0.1:99999"}, []string{"--listen", "99999", "HOST:PORT"}},
		{[]string{"serve", "--listen", "192.0.2.1:4433"}, []string{"--listen", "192.0.2.1", "assign", "HOST:PORT"}},
		{[]string{"serve", "--listen", taken.LocalAddr().String()}, []string{"--listen", "in use", "free UDP port"}},
		{[]string{"serve", "--listen", "127.0.0.1:0", "--sink", "ftp:x"}, []string{"--sink", "ftp:x", "dir:DIR"}},
		{[]string{"serve", "--listen", "127.0.0.1:0", "--sink", "dir:" + file}, []string{"--sink", "not a directory", "dir:DIR"}},
		{[]string{"serve", "--listen", "127.0.0.1:0", "--sink", "dir:/proc/x/y"}, []string{"--sink", "/proc/x", "dir:DIR"}},
		{[]string{"serve", "--cert", "absent.pem", "--key", "absent.key"}, []string{"--cert", "no such file", "PEM"}},
		{[]string{"serve", "--cert", file, "--key", file}, []string{"--cert", "PEM"}},
		{[]string{"serve", "--cert", file}, []string{"--cert", "--key is missing"}},
		{[]string{"serve", "--key", file}, []string{"--key", "--cert is missing"}},
		{[]string{"serve", "--backend", "epoll"}, []string{"--backend", "epoll", "uring"}},
		{[]string{"serve", "--drain", "maybe"}, []string{"--drain", "on", "off"}},
		{[]string{"serve", "--log-level", "loud"}, []string{"--log-level", "loud"}},
		{[]string{"put", "absent", "https://127.0.0.1:1/x"}, []string{"absent", "no such file"}},
		{[]string{"put", file, "http://127.0.0.1:1/x"}, []string{"URL", "https"}},
		{[]string{"put", "-", "https://127.0.0.1:1/"}, []string{"/NAME"}},
		{[]string{"put", file, "https://127.0.0.1:1/", "--cacert", file}, []string{"--cacert", "certificate"}},
		{[]string{"get", "127.0.0.1:1/x"}, []string{"URL", "https://"}},
		{[]string{"get", "https://127.0.0.1:1/x", "--count", "0"}, []string{"--count"}},
		{[]string{"get", "https://127.0.0.1:1/x", "--backend", "x"}, []string{"--backend"}},
		{[]string{"demo", "--iterations", "0"}, []string{"--iterations"}},
		{[]string{"demo", "--size", "999999999"}, []string{"--size"}},
		{[]string{"frobnicate"}, []string{"frobnicate", "--help"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			r := runTailfin(t, tc.args...)
			if r.code != exitUsage {
				t.Errorf("exit code %d, want %d", r.code, exitUsage)
			}
			for _, part := range tc.want {
				if !strings.Contains(r.stderr, part) {
					t.Errorf("the message does not say %q", part)
				}
			}
			if strings.Contains(r.stderr, "goroutine ") {
				t.Error("it crashed")
			}
			if t.Failed() {
				t.Logf("stderr:\n%s", r.stderr)
			}
		})
	}
}

func TestUploadErrors(t *testing.T) {
	d := serve(t, "--max-body", "1000")
	file, _ := writeFile(t, 1001)
	small, _ := writeFile(t, 10)
	base := "https://" + d.addr
	for _, tc := range []struct {
		file, path, want string
	}{
		{file, "/big", "413"},
		{small, "/..%2f..%2fout", "400"},
		{small, "/%2e%2e", "400"},
		{small, "/a/b", "400"},
		{small, "/.hidden", "400"},
	} {
		r := runTailfin(t, "put", tc.file, base+tc.path, "--insecure")
		if r.code != exitFailed || !strings.Contains(r.stderr, tc.want) {
			t.Errorf("put to %s: want %s, got %+v", tc.path, tc.want, r)
		}
	}
	var stored []string
	_ = filepath.WalkDir(filepath.Dir(d.dir), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			stored = append(stored, path)
		}
		return nil
	})
	if len(stored) != 0 {
		t.Fatalf("refused uploads left %v", stored)
	}
}

func TestGetOfNothing(t *testing.T) {
	d := serve(t)
	if r := runTailfin(t, "get", "https://"+d.addr+"/absent", "--insecure"); r.code != exitFailed || !strings.Contains(r.stderr, "404") {
		t.Fatalf("%+v", r)
	}
	if r := runTailfin(t, "get", "https://"+d.addr+"/bytes/1000"); r.code != exitFailed || !strings.Contains(r.stderr, "certificate") {
		t.Fatalf("an unknown certificate was trusted: %+v", r)
	}
}

func TestDemo(t *testing.T) {
	r := runTailfin(t, "demo", "--iterations", "40", "--json")
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	var out struct {
		RaceOccurred bool `json:"race_occurred"`
		Rows         []struct {
			Direction, Drain      string
			Requests, Whole, Lost int
		} `json:"rows"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Rows) != 4 {
		t.Fatalf("%d rows, want both directions with the drain off and on", len(out.Rows))
	}
	for _, row := range out.Rows {
		if row.Requests != 40 || row.Whole+row.Lost != 40 || row.Drain == "on" && row.Lost != 0 {
			t.Errorf("row %+v", row)
		}
	}
	if !out.RaceOccurred {
		t.Error("the race did not occur")
	}
}

func TestVersion(t *testing.T) {
	r := runTailfin(t, "version")
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "tailfin ") || !strings.Contains(r.stdout, runtime.Version()) {
		t.Fatalf("%+v", r)
	}
}

// TestDemoMatrix checks the form; package bench runs the matrix in earnest.
func TestDemoMatrix(t *testing.T) {
	r := runTailfin(t, "demo", "--matrix", "--iterations", "1", "--json")
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	var out struct {
		Rows []closerace.MatrixCell `json:"rows"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatal(err)
	}
	if want := 2 * 2 * len(closerace.Shapes) * len(closerace.CloseKinds); len(out.Rows) != want {
		t.Fatalf("%d rows, want %d", len(out.Rows), want)
	}
}
