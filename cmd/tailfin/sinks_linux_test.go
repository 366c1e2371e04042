package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// fill takes all the space of a disk, and gives it back by the function.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	name := filepath.Join(disk, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDirRecovers has the disk of a folder fail in two ways, and come back.
func TestDirRecovers(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	d := serveObserved(t, "--sink", "dir:"+disk)
	tr, url := newTransport(t), "https://"+d.addr
	wantStatus(t, tr, http.StatusCreated, "PUT", url+"/before", strings.NewReader("before"))
	d.waitReady(t, http.StatusOK)
	remount := func(flags uintptr) {
		t.Helper()
		eventually(t, "the disk is mounted anew", func() bool { // not while a check has a file open
			return unix.Mount("", disk, "", unix.MS_REMOUNT|flags, "") == nil
		})
	}
	var free func()
	for i, failure := range []struct {
		name, reason  string
		begin, recede func()
	}{
		{"full", "no space left", func() { free = fill(t, disk) }, func() { free() }},
		{"read-only", "read-only", func() { remount(unix.MS_RDONLY) }, func() { remount(0) }},
	} {
		failure.begin()
		a := wantStatus(t, tr, http.StatusInsufficientStorage, "PUT", url+"/"+failure.name, bytes.NewReader(peer.Pattern(9000)))
		if strings.Contains(string(a.body), disk) {
			t.Errorf("%s: the client is told our paths: %s", failure.name, a.body)
		}
		if reason := d.waitReady(t, http.StatusServiceUnavailable); !strings.Contains(reason, failure.reason) {
			t.Errorf("%s: /readyz does not say why: %s", failure.name, reason)
		}
		d.waitMetric(t, 0, "tailfin_sink_check_ok")
		if got := d.metric(t, "tailfin_sink_stores_total", "result=full"); got != float64(i+1) {
			t.Errorf("%s: %v uploads count as such, want %d", failure.name, got, i+1)
		}
		if got := d.lines("msg=request", "level=WARN", "status=507", "path=/"+failure.name, failure.reason); got != 1 {
			t.Errorf("%s: %d access lines, want 1:\n%s", failure.name, got, d.log)
		}
		failure.recede()
		d.waitReady(t, http.StatusOK)
		d.waitMetric(t, 1, "tailfin_sink_check_ok")
		if failing, again := d.lines("takes no uploads"), d.lines("takes uploads again"); failing != i+1 || again != i+1 {
			t.Errorf("%s: %d lines on the failure and %d on its end, want %d:\n%s", failure.name, failing, again, i+1, d.log)
		}
		wantStatus(t, tr, http.StatusCreated, "PUT", url+"/after-"+failure.name, strings.NewReader("after"))
	}
	for _, name := range []string{"full", "read-only"} {
		if _, err := os.Stat(filepath.Join(disk, name)); err == nil {
			t.Errorf("%s was answered 507, and is there", name)
		}
	}
	d.stop(t)
}

// line is what the tests read of a record.
type line struct {
	Name       string
	Size       int
	SHA256     string
	Body       *string
	BodyBase64 []byte `json:"body_base64"`
}

// readLines demands that all is whole records, and returns them.
func readLines(t *testing.T, text []byte) []line {
	t.Helper()
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("the last line has no end: %.60q", text[max(0, len(text)-60):])
	}
	var list []line
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v in %.200q", err, lines.Text())
		}
		list = append(list, l)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// check demands that a record has the body that it was sent.
func (l line) check(t *testing.T, body []byte) {
	t.Helper()
	got := l.BodyBase64
	if l.Body != nil {
		got = []byte(*l.Body)
	}
	sum := sha256.Sum256(body)
	if l.Size != len(body) || l.SHA256 != hex.EncodeToString(sum[:]) || !bytes.Equal(got, body) {
		t.Errorf("record %s has %d bytes, sum %s, %d of them here; %d were sent", l.Name, l.Size, l.SHA256, len(got), len(body))
	}
}

// TestNDJSONRecovers has the disk of a file of records fill up in the middle of one.
func TestNDJSONRecovers(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	file := filepath.Join(disk, "records")
	d := serveObserved(t, "--sink", "ndjson:"+file)
	tr, url := newTransport(t), "https://"+d.addr
	sent := map[string][]byte{}
	put := func(name string, size int) int {
		t.Helper()
		body := peer.Pattern(size)
		a, err := send(t, tr, "PUT", url+"/"+name, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode == http.StatusCreated {
			sent[name] = body
		}
		return a.StatusCode
	}
	full := 0
	for i := 0; full < 3; i++ {
		switch status := put(fmt.Sprint("r", i), 20_000+i); {
		case status == http.StatusInsufficientStorage:
			full++
		case status != http.StatusCreated || i > 100:
			t.Fatalf("upload %d: %d", i, status)
		}
	}
	check := func() {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list := readLines(t, text)
		if len(list) != len(sent) {
			t.Errorf("%d records for %d answers of 201", len(list), len(sent))
		}
		for _, l := range list {
			l.check(t, sent[l.Name])
		}
	}
	check()
	if got := d.metric(t, "tailfin_sink_stores_total", "result=full"); got != 3 {
		t.Errorf("%v uploads count as full, want 3", got)
	}
	if got := d.lines("status=507", "no space left"); got != 3 {
		t.Errorf("%d access lines, want 3:\n%s", got, d.log)
	}
	// More room: it goes on by itself.
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if status := put(fmt.Sprint("again", i), 27_000); status != http.StatusCreated {
			t.Fatalf("with room again: %d", status)
		}
	}
	d.waitReady(t, http.StatusOK)
	check()
	d.stop(t)
	check()
}

// TestNDJSONToStdout reads the records as another program would.
func TestNDJSONToStdout(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d := serveAs(t, func(cmd *exec.Cmd) { cmd.Stdout = w }, "--sink", "ndjson:-")
	_ = w.Close() // the daemon has its own
	out := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(r)
		out <- text
	}()
	tr, url := newTransport(t), "https://"+d.addr
	sent := map[string][]byte{"empty": {}, "text": []byte("line 1\nline 2 \"quoted\" \x7f é\u2028\n"), "bytes": peer.Pattern(60_000)}
	for name, body := range sent {
		wantStatus(t, tr, http.StatusCreated, "POST", url+"/"+name, bytes.NewReader(body))
	}
	// There is no folder for a body that is too long for its record.
	wantStatus(t, tr, http.StatusRequestEntityTooLarge, "POST", url+"/long", bytes.NewReader(peer.Pattern(100_000)))
	wantStatus(t, tr, http.StatusRequestEntityTooLarge, "POST", url+"/unsized", unsized(strings.Repeat("x", 100_000)))
	d.stop(t)
	list := readLines(t, <-out)
	if len(list) != len(sent) {
		t.Errorf("%d records of %d uploads", len(list), len(sent))
	}
	for _, l := range list {
		l.check(t, sent[l.Name])
	}
}
