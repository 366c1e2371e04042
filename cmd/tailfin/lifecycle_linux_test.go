package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// TestTermUnderLoad stops a daemon that is at work: each request is answered, or the
// client knows that it was not accepted.
func TestTermUnderLoad(t *testing.T) {
	d := serve(t)
	l := startLoad(t, d.addr, 8, false)
	l.wait(t, 200)
	d.stop(t)
	l.end()
	refused := 0
	for _, err := range l.errs {
		// After the daemon is gone new connections fail, before anything is sent.
		progress, ok := tailfin.ProgressOf(err)
		var dial *tailfin.DialError
		switch {
		case errors.As(err, &dial), ok && progress.RetrySafe:
			refused++
		default:
			t.Errorf("accepted, and lost: %v", err)
		}
	}
	if len(l.stored) == 0 {
		t.Fatal("nothing was stored before")
	}
	l.check(t, d.dir)
	t.Logf("%d requests, %d stored, %d refused safely, none lost", l.calls.Load(), len(l.stored), refused)
}

// TestTermAfterGrace stops a daemon with uploads that do not end: nothing of them is left.
func TestTermAfterGrace(t *testing.T) {
	d := serve(t, "--grace", "200ms")
	tr := newTransport(t)
	const uploads = 50
	var ended sync.WaitGroup
	for i := range uploads {
		body, more := io.Pipe()
		defer func() { _ = more.Close() }()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("https://%s/%d", d.addr, i), body)
		if err != nil {
			t.Fatal(err)
		}
		ended.Go(func() {
			if resp, err := tr.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("an upload without an end was answered: %s", resp.Status)
			}
		})
		if _, err := more.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all have begun", func() bool { return d.unfinished(t) == uploads })
	d.stop(t)
	ended.Wait()
	if !strings.Contains(d.log.String(), "grace is over") {
		t.Errorf("nothing was cut off:\n%s", d.log)
	}
	if n := d.unfinished(t); n != 0 {
		t.Errorf("%d unfinished files are left", n)
	}
	files, err := os.ReadDir(d.dir)
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		if !f.IsDir() {
			t.Errorf("%s is left", f.Name())
		}
	}
}

// writePair writes a certificate and its key, over what is there.
func writePair(t *testing.T, certFile, keyFile string) (serial string) {
	t.Helper()
	cert, err := devcert.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for file, text := range map[string][]byte{certFile: devcert.PEM(cert), keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert.Leaf.SerialNumber.String()
}

func (d *daemon) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// waitLog returns when the log has text.
func (d *daemon) waitLog(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(d.log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q:\n%s", text, d.log)
		}
	}
}

// TestReloadUnderLoad gives a daemon at work new certificates and a new configuration.
func TestReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, confFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "tailfin.yaml")
	write := func(conf string) {
		if err := os.WriteFile(confFile, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serials := []string{writePair(t, certFile, keyFile)}
	write("max-body: 1MiB\nlog-level: info\n")
	d := serve(t, "--cert", certFile, "--key", keyFile, "--config", confFile)
	kept, fresh := startLoad(t, d.addr, 4, false), startLoad(t, d.addr, 4, true)
	const reloads = 5
	for i := range reloads {
		fresh.wait(t, 40)
		serials = append(serials, writePair(t, certFile, keyFile))
		write(fmt.Sprintf("max-body: %dKiB\nlog-level: info\n", 100-i))
		d.signal(t, syscall.SIGHUP)
		d.waitLog(t, fmt.Sprintf("to=%dKiB", 100-i))
	}
	fresh.wait(t, 40)
	write("max-body: 50KiB\nlisten: 127.0.0.1:1\nbackend: nonsense\n")
	d.signal(t, syscall.SIGHUP)
	d.waitLog(t, confFile+":3: backend: nonsense")
	kept.end()
	fresh.end()
	for _, err := range append(kept.errs, fresh.errs...) {
		t.Error(err)
	}
	for i, serial := range serials {
		if fresh.certs[serial] == 0 {
			t.Errorf("no client has seen certificate %d", i)
		}
	}
	// The last good configuration is in effect.
	big, _ := writeFile(t, 97<<10)
	if r := runTailfin(t, "put", big, "https://"+d.addr+"/big", "--insecure"); !strings.Contains(r.stderr, "413") {
		t.Errorf("above the limit that was reloaded: %+v", r)
	}
	kept.check(t, d.dir)
	d.stop(t)
	t.Logf("%d requests on kept connections and %d on fresh ones over %d reloads, none failed", kept.calls.Load(), fresh.calls.Load(), reloads)
}

// TestTakeoverUnderLoad replaces a daemon at work by another, several times.
func TestTakeoverUnderLoad(t *testing.T) {
	d := serve(t)
	refused := runTailfin(t, "serve", "--listen", d.addr, "--sink", "dir:"+d.dir)
	if refused.code != exitUsage || !strings.Contains(refused.stderr, "--takeover") || !strings.Contains(refused.stderr, fmt.Sprint(d.cmd.Process.Pid)) {
		t.Errorf("a second daemon without --takeover: %+v", refused)
	}
	kept, fresh := startLoad(t, d.addr, 6, false), startLoad(t, d.addr, 2, true)
	dir, addr := d.dir, d.addr
	const takeovers = 4
	for range takeovers {
		kept.wait(t, 100)
		next := serve(t, "--listen", addr, "--sink", "dir:"+dir, "--takeover")
		d.waitExit(t)
		d = next
	}
	kept.wait(t, 100)
	kept.end()
	fresh.end()
	for _, err := range append(kept.errs, fresh.errs...) {
		t.Error(err)
	}
	kept.check(t, dir)
	fresh.check(t, dir)
	d.stop(t)
	t.Logf("%d requests on kept connections and %d on fresh ones over %d take-overs, none failed", kept.calls.Load(), fresh.calls.Load(), takeovers)
}

// TestTermWhileSuperseded stops a daemon that finishes a request after another has
// taken over: that is the first signal it gets, and the request may still finish.
func TestTermWhileSuperseded(t *testing.T) {
	first := serve(t, "--grace", "2m")
	tr := &tailfin.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer func() { _ = tr.Close() }()
	body, more := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+first.addr+"/slow", body)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		resp, err := tr.RoundTrip(req)
		if err == nil {
			err = resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				err = errors.New(resp.Status)
			}
		}
		answer <- err
	}()
	_, _ = more.Write(make([]byte, 1000))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if begun, _ := os.ReadDir(first.dir); len(begun) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the request does not begin")
		}
	}
	again := []string{"--grace", "2m", "--listen", first.addr, "--sink", "dir:" + first.dir, "--takeover"}
	second := serve(t, again...)
	first.waitLog(t, "another tailfin has taken over")
	first.signal(t, syscall.SIGTERM)
	third := serve(t, again...)
	second.waitLog(t, "msg=stopped")
	select {
	case <-second.done:
		t.Error("the second left the first alone")
	case err := <-answer:
		t.Errorf("answered before its end: %v", err)
	default:
	}
	_, _ = more.Write(make([]byte, 1000))
	_ = more.Close()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	first.waitExit(t)
	second.waitExit(t)
	third.stop(t)
}

// waitExit waits for a daemon to end by itself.
func (d *daemon) waitExit(t *testing.T) {
	t.Helper()
	select {
	case <-d.done:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", d.log)
	}
	state, err := d.cmd.Process.Wait()
	if err != nil || state.ExitCode() != exitOK {
		t.Fatalf("ended with %v, %v:\n%s", state, err, d.log)
	}
}

// TestServiceManager plays the service manager: it gives a socket, gets notified, and
// keeps a watch.
func TestServiceManager(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "notify")})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	// next returns the next notification that has key.
	next := func(key string) string {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			_ = manager.SetReadDeadline(time.Now().Add(time.Minute))
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("no notification with %s: %v", key, err)
			}
			if text := string(buf[:n]); strings.Contains(text, key) {
				return text
			}
		}
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	given, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	addr := socket.LocalAddr().String()
	_ = socket.Close()
	dir := t.TempDir()
	inner := program(t, "serve", "--sink", "dir:"+dir)
	// LISTEN_PID must be the daemon's, which it has only once it runs.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`)
	cmd.Args = append(cmd.Args, inner.Args...)
	cmd.Env = append(inner.Env, "LISTEN_FDS=1", "NOTIFY_SOCKET="+manager.LocalAddr().String(), "WATCHDOG_USEC=400000")
	cmd.ExtraFiles = []*os.File{given}
	var log peer.Output
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	next("READY=1")
	for range 3 {
		next("WATCHDOG=1")
	}
	file, _ := writeFile(t, 1000)
	if r := runTailfin(t, "put", file, "https://"+addr+"/x", "--insecure"); r.code != exitOK {
		t.Errorf("put to the given socket: %+v\n%s", r, &log)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if text := next("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") {
		t.Errorf("reloading: %q", text)
	}
	next("READY=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v:\n%s", err, &log)
	}
	// The socket is the manager's, and waits for the next daemon.
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
		t.Error(err)
	}
	_ = given.Close()
}

// TestReadiness has readiness fail before anything else changes.
func TestReadiness(t *testing.T) {
	admin := freeTCP(t)
	d := serve(t, "--admin", admin, "--readiness-delay", "1m")
	status := func(path string) int {
		t.Helper()
		resp, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 200} {
		if got := status(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	d.signal(t, syscall.SIGTERM)
	for deadline := time.Now().Add(time.Minute); status("/readyz") != http.StatusServiceUnavailable; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays ready after SIGTERM")
		}
	}
	if got := status("/healthz"); got != http.StatusOK {
		t.Errorf("healthz while stopping: %d", got)
	}
	file, _ := writeFile(t, 1000)
	if r := runTailfin(t, "put", file, "https://"+d.addr+"/x", "--insecure"); r.code != exitOK {
		t.Errorf("put while readiness fails: %+v", r)
	}
	d.signal(t, syscall.SIGTERM) // the second ends the waiting
	d.waitExit(t)
}

// freeTCP is an address that nobody has, now.
func freeTCP(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestLogs has the files that a daemon writes for those who look for errors.
func TestLogs(t *testing.T) {
	dir := t.TempDir()
	keyLog, qlogs := filepath.Join(dir, "keys"), filepath.Join(dir, "qlogs")
	d := serve(t, "--key-log", keyLog, "--qlog-dir", qlogs, "--qlog-max", "2", "--log-format", "json", "--access-log", "errors")
	file, _ := writeFile(t, 1000)
	if r := runTailfin(t, "put", file, "https://"+d.addr+"/x", "--insecure", "--count", "3"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if r := runTailfin(t, "put", file, "https://"+d.addr+"/.hidden", "--insecure"); r.code != exitFailed {
		t.Fatalf("%+v", r)
	}
	d.stop(t)
	keys, err := os.ReadFile(keyLog)
	if err != nil || !bytes.Contains(keys, []byte("CLIENT_TRAFFIC_SECRET_0 ")) {
		t.Errorf("key log: %v: %.100s", err, keys)
	}
	files, err := filepath.Glob(filepath.Join(qlogs, "*_server.sqlog"))
	if err != nil || len(files) != 2 {
		t.Errorf("qlogs: %v, %v", files, err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err != nil || !bytes.Contains(text, []byte("packet_received")) {
			t.Errorf("%s: %v: %.100s", f, err, text)
		}
	}
	if got := strings.Count(d.log.String(), `"msg":"request"`); got != 1 {
		t.Errorf("%d access lines, want that of the error alone:\n%s", got, d.log)
	}
	if !strings.Contains(d.log.String(), "no more qlog files") {
		t.Errorf("it does not say that qlogs end:\n%s", d.log)
	}
}
