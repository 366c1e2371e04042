package sink

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func openNDJSON(t *testing.T, file string, opts Options) *NDJSON {
	t.Helper()
	s, err := OpenNDJSON(file, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// records reads a file of lines; each must be whole JSON.
func records(t *testing.T, file string) []map[string]any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Fatalf("the last line has no end: %.80q", b[bytes.LastIndexByte(b, '\n')+1:])
	}
	var list []map[string]any
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var rec map[string]any
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatalf("line %.80q: %v", lines.Text(), err)
		}
		list = append(list, rec)
	}
	return list
}

func testUpload(name string) Upload {
	return Upload{
		Name: name, Time: time.Date(2026, 11, 26, 1, 2, 3, 4, time.UTC), Peer: "192.0.2.1:4711", Method: http.MethodPut,
		Host: "example.com", Path: "/" + name + "?q=<1>",
		Header: http.Header{"Content-Type": {"text/plain"}, "User-Agent": {"a", "b"}, "Authorization": {"secret"}}, Length: -1,
	}
}

func TestNDJSONRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	s := openNDJSON(t, file, Options{})
	long := strings.Repeat("long ", DefaultInline)
	for _, body := range []string{"text with \"quotes\"\nand lines", "\xff\x00binary", "", strings.Repeat("x", DefaultInline), long} {
		r, err := s.Store(t.Context(), testUpload("report"), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if r != (Receipt{Name: "report", Bytes: int64(len(body)), SHA256: hexSum([]byte(body))}) {
			t.Fatalf("receipt %+v", r)
		}
		list := records(t, file)
		rec := list[len(list)-1]
		for key, want := range map[string]any{
			"time": "2026-11-26T01:02:03.000000004Z", "peer": "192.0.2.1:4711", "method": "PUT", "host": "example.com",
			"path": "/report?q=<1>", "name": "report", "size": float64(len(body)), "sha256": r.SHA256,
		} {
			if rec[key] != want {
				t.Errorf("%s is %v, want %v", key, rec[key], want)
			}
		}
		if got := fmt.Sprint(rec["headers"]); got != "map[content-type:text/plain user-agent:a, b]" {
			t.Errorf("headers %s", got)
		}
		var got []byte
		switch {
		case rec["body_path"] != nil:
			if got, err = os.ReadFile(rec["body_path"].(string)); err != nil || len(body) <= DefaultInline {
				t.Fatalf("%d bytes in a file: %v", len(body), err)
			}
		case rec["body_base64"] != nil:
			got, _ = base64.StdEncoding.DecodeString(rec["body_base64"].(string))
		default:
			got = []byte(rec["body"].(string))
		}
		if string(got) != body {
			t.Errorf("the record has another body: %.40q", got)
		}
	}
	if n := len(records(t, file)); n != 5 {
		t.Fatalf("%d records", n)
	}
	cut := errors.New("connection lost")
	for _, n := range []int{10, 2 * DefaultInline} {
		if _, err := s.Store(t.Context(), testUpload("cut"), io.MultiReader(bytes.NewReader(make([]byte, n)), iotest.ErrReader(cut))); !errors.Is(err, cut) {
			t.Fatal(err)
		}
	}
	if n := len(records(t, file)); n != 5 {
		t.Fatalf("%d records after bodies that were cut", n)
	}
	if got := files(t, file+".d"); len(got) != 1 {
		t.Fatalf("bodies %v, want one", got)
	}
	if _, ok := any(s).(Fetcher); ok {
		t.Fatal("a sink of records gives back bodies")
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNDJSONOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	bodies := filepath.Join(t.TempDir(), "bodies")
	s := openNDJSON(t, file, Options{NDJSON: NDJSONOptions{Headers: []string{"authorization"}, MaxInline: 3, BodyDir: bodies}})
	for _, body := range []string{"abc", "abcd"} {
		if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	list := records(t, file)
	if list[0]["body"] != "abc" || filepath.Dir(list[1]["body_path"].(string)) != bodies || fmt.Sprint(list[0]["headers"]) != "map[authorization:secret]" {
		t.Fatal(list)
	}
}

// TestNDJSONTogether has many writers in two sinks on one file, as at a hand-over
// between daemons.
func TestNDJSONTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	sinks := []*NDJSON{openNDJSON(t, file, Options{}), openNDJSON(t, file, Options{})}
	const writers, each = 16, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				body := fmt.Sprintf("%d-%d-%s", w, i, strings.Repeat("x", (w*each+i)*50))
				if _, err := sinks[w%2].Store(t.Context(), testUpload("x"), strings.NewReader(body)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, rec := range records(t, file) {
		seen[rec["body"].(string)] = true
	}
	if len(seen) != writers*each {
		t.Fatalf("%d of %d records", len(seen), writers*each)
	}
}

func TestNDJSONMend(t *testing.T) {
	whole := `{"time":"2026-11-26T00:00:00Z","size":1}` + "\n"
	for _, tc := range []struct {
		name, before, after string
	}{
		{"new", "", ""},
		{"whole", whole, whole},
		{"torn", whole + `{"time":"2026-11-26T01:00:00Z","bo`, whole},
		{"torn at once", whole + `{"ti`, whole},
		{"torn alone", `{"time":"2026`, ""},
		{"without newline", whole + `{"a":1}`, whole + `{"a":1}` + "\n"},
		{"not ours", whole + "not JSON", "error"},
		{"no lines", "PK\x03\x04", "error"},
	} {
		file := filepath.Join(t.TempDir(), "out.ndjson")
		if err := os.WriteFile(file, []byte(tc.before), 0o644); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		s, err := OpenNDJSON(file, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		want := tc.after
		if want == "error" {
			want = tc.before
			if err == nil {
				t.Errorf("%s: opened", tc.name)
			}
		} else if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if s != nil {
			_ = s.Close()
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q", tc.name, got, want)
		}
		if tc.before != want && !strings.Contains(log.String(), "last line") && !strings.Contains(log.String(), "unfinished record") {
			t.Errorf("%s: changed without a word: %s", tc.name, &log)
		}
	}
}

func TestNDJSONReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	s := openNDJSON(t, file, Options{})
	store := func(body string) {
		t.Helper()
		if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	store("1")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	store("2")
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	store("3")
	if a, b := len(records(t, file+".1")), len(records(t, file)); a != 2 || b != 1 {
		t.Fatalf("%d and %d records, want 2 and 1", a, b)
	}
	// A file that cannot be opened: go on with what there is.
	if err := os.Rename(file, file+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(); err == nil {
		t.Fatal("a folder was opened")
	}
	store("4")
	if n := len(records(t, file+".2")); n != 2 {
		t.Fatalf("%d records", n)
	}
	_ = s.Close()
	if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("after close: %v", err)
	}
}

// TestNDJSONPipe has standard output be a pipe: whole lines, and long bodies
// refused unless a folder is named.
func TestNDJSONPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdout := os.Stdout
	os.Stdout = w
	s, err := OpenNDJSON("-", Options{})
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan int)
	go func() {
		n := 0
		for in := bufio.NewScanner(r); in.Scan(); n++ {
			if !json.Valid(in.Bytes()) {
				t.Errorf("no whole line: %.80q", in.Text())
			}
		}
		lines <- n
	}()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader(strings.Repeat("y", 9000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var tooLong *TooLongError
	up := testUpload("x")
	for _, length := range []int64{-1, 100_000} {
		up.Length = length
		if _, err := s.Store(t.Context(), up, strings.NewReader(strings.Repeat("y", 100_000))); !errors.As(err, &tooLong) || !strings.Contains(err.Error(), "folder") {
			t.Errorf("a long body without a folder: %v", err)
		}
	}
	_ = w.Close()
	if n := <-lines; n != 160 {
		t.Errorf("%d lines, want 160", n)
	}
	if _, err := s.Store(t.Context(), testUpload("x"), strings.NewReader("x")); err == nil {
		t.Error("stored to a closed pipe")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestNDJSONStdoutFile has standard output be a file: it is synced, and what
// was there before stays.
func TestNDJSONStdoutFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lf, err := wrapLines(f, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if !lf.regular {
		t.Fatal("a file is not taken for one")
	}
	for range 3 {
		if err := lf.write([]byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(records(t, file)); n != 3 {
		t.Fatalf("%d lines", n)
	}
}

func BenchmarkNDJSONStore(b *testing.B) {
	s, err := OpenNDJSON(filepath.Join(b.TempDir(), "out.ndjson"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := bytes.Repeat([]byte{'x'}, 1<<10)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(32)
	start := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Store(b.Context(), testUpload("x"), bytes.NewReader(body)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric((cpuTime(b)-start)*1e6/float64(b.N), "cpu-us/op")
}
