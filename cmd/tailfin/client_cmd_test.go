package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
)

// waitForSize waits until a file has so many bytes.
func waitForSize(t *testing.T, path string, size int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if info, err := os.Stat(path); err == nil && info.Size() >= size {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has not come to %d bytes", path, size)
		}
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// writeLongFile makes a file that takes a while to be transferred, and not to be made:
// mostly a hole.
func writeLongFile(t *testing.T, path string) {
	t.Helper()
	const size = 48 << 20
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for at := int64(0); at < size; at += 1 << 20 {
		if _, err := f.WriteAt(fmt.Appendf(nil, "byte %d", at), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// TestGetOverKilledServer kills the server at work, starts another one in its place,
// and lets get go on by itself.
func TestGetOverKilledServer(t *testing.T) {
	d := serve(t)
	stored := filepath.Join(d.dir, "report")
	writeLongFile(t, stored)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(stored, old, old); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	cmd := program(t, "get", "https://"+d.addr+"/report", "-o", path, "--insecure", "--json", "--retries", "20", "--retry-wait", "50ms", "--idle-timeout", "2s")
	out, errs := &peer.Output{}, &peer.Output{}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForSize(t, path+".part", 1<<20)
	if err := d.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-d.done
	serve(t, "--listen", d.addr, "--sink", "dir:"+d.dir)
	err := cmd.Wait()
	var res client.Downloaded
	if jerr := json.Unmarshal([]byte(out.String()), &res); err != nil || jerr != nil {
		t.Fatalf("%v, %v: %s%s", err, jerr, out, errs)
	}
	if res.Attempts < 2 || res.Status != 206 || fileSum(t, path) != fileSum(t, stored) || res.SHA256 != fileSum(t, stored) {
		t.Fatalf("%+v\n%s", res, errs)
	}
}

// folderSize is what all files below dir have, in bytes.
func folderSize(dir string) int64 {
	var size int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// TestManyFiles puts several files and gets them by their names, side by side and on
// shared connections.
func TestManyFiles(t *testing.T) {
	for _, how := range [][]string{nil, {"--parallel", "4"}, {"--parallel", "4", "--connections", "1"}, {"-P", "4", "--connections", "2"}} {
		t.Run(strings.Join(how, " "), func(t *testing.T) {
			d := serve(t)
			dir, urls := t.TempDir(), []string{"get"}
			put := []string{"put"}
			for i := range 12 {
				name := filepath.Join(dir, fmt.Sprintf("part-%d", i))
				if err := os.WriteFile(name, peer.Pattern(1000*i), 0o600); err != nil {
					t.Fatal(err)
				}
				put = append(put, name)
				urls = append(urls, "https://"+d.addr+"/"+filepath.Base(name))
			}
			r := runTailfin(t, append(append(put, "https://"+d.addr, "--insecure"), how...)...)
			if r.code != exitOK || !strings.Contains(r.stderr, "12 requests: 12 whole, 0 failed, ") || !strings.Contains(r.stderr, "p99") {
				t.Fatalf("put: %+v", r)
			}
			copies := filepath.Join(t.TempDir(), "copies")
			r = runTailfin(t, append(append(urls, "--insecure", "--output-dir", copies, "--json"), how...)...)
			if n := strings.Count(r.stdout, `"complete":true`); r.code != exitOK || n != 12 {
				t.Fatalf("get: %+v", r)
			}
			for i := range 12 {
				name := fmt.Sprintf("part-%d", i)
				if fileSum(t, filepath.Join(dir, name)) != fileSum(t, filepath.Join(copies, name)) {
					t.Errorf("%s is another one", name)
				}
			}
		})
	}
}

func TestVerbose(t *testing.T) {
	d := serve(t)
	r := runTailfin(t, "get", "https://"+d.addr+"/bytes/10", "--insecure", "--verbose", "-H", "X-Test: yes")
	for _, part := range []string{"* connecting to " + d.addr, "TLS 1.3", `ALPN "h3"`, "rtt ", "read by ", "GRO ", "< HTTP/3.0 200 OK", "< Content-Length: 10"} {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("it does not say %q", part)
		}
	}
	if r.code != exitOK || len(r.stdout) != 10 || t.Failed() {
		t.Fatalf("exit %d, %q:\n%s", r.code, r.stdout, r.stderr)
	}
}

// TestPutJSON holds the fields of the line that others script against.
func TestPutJSON(t *testing.T) {
	d := serve(t)
	file, sum := writeFile(t, 9000)
	r := runTailfin(t, "put", file, "https://"+d.addr+"/", "--insecure", "--json")
	var line map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &line); err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	for field, want := range map[string]any{"status": 201.0, "bytes": 9000.0, "sha256": sum, "error": "", "attempts": 1.0, "resumed": 0.0, "url": "https://" + d.addr + "/report"} {
		if line[field] != want {
			t.Errorf("%s is %v, want %v", field, line[field], want)
		}
	}
	if _, ok := line["ms"]; !ok || t.Failed() {
		t.Fatalf("%s", r.stdout)
	}
}

// TestBadClientInput has what a user of put and get gets wrong.
func TestBadClientInput(t *testing.T) {
	file, _ := writeFile(t, 10)
	const url = "https://127.0.0.1:1/x"
	for _, tc := range []struct {
		args []string
		want []string // parts of stderr
	}{
		{[]string{"put", file}, []string{"FILE and a URL"}},
		{[]string{"put", file, file, url}, []string{"one name for 2 files", "end the URL in /"}},
		{[]string{"put", file, file, "https://127.0.0.1:1/"}, []string{"has the name of"}},
		{[]string{"put", "-", url, "--resume"}, []string{"--resume", "name a file"}},
		{[]string{"put", file, url, "--resume", "--close-after-fin"}, []string{"--resume", "--close-after-fin"}},
		{[]string{"put", file, url, "-H", "nonsense"}, []string{"-H", "NAME: VALUE"}},
		{[]string{"put", file, url, "-H", "Upload-Offset: 5"}, []string{"-H", "--resume"}},
		{[]string{"put", file, url, "--parallel", "0"}, []string{"--parallel", "1 or more"}},
		{[]string{"put", file, url, "--retries", "-1"}, []string{"--retries"}},
		{[]string{"put", file, url, "--idle-timeout", "1ms"}, []string{"--idle-timeout", "30s"}},
		{[]string{"get", url, "-H", "Range: bytes=5-"}, []string{"-H", "-C"}},
		{[]string{"get", url, url}, []string{"standard output", "-O"}},
		{[]string{"get", url, url, "-O"}, []string{"-O", "have this name"}},
		{[]string{"get", url, url + "2", "-o", "y"}, []string{"-o", "--output-dir"}},
		{[]string{"get", "https://127.0.0.1:1/", "-O"}, []string{"-O", "does not end in a name", "-o"}},
		{[]string{"get", "https://127.0.0.1:1/%2e%2e", "-O"}, []string{"-O", "does not end in a name"}},
		{[]string{"get", url, "-C"}, []string{"-C", "-o or -O"}},
		{[]string{"get", url, "--sha256", "abc"}, []string{"--sha256", "64"}},
		{[]string{"get", url, "-o", filepath.Dir(file)}, []string{"-o", "folder"}},
		{[]string{"get", url, "-o", "/absent/folder/x"}, []string{"-o", "/absent/folder", "can be written"}},
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
			if t.Failed() {
				t.Logf("stderr:\n%s", r.stderr)
			}
		})
	}
}
