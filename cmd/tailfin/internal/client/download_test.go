package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// versions is a file on a server that can cut answers, and change.
type versions struct {
	mu       sync.Mutex
	body     []byte
	etag     string // empty for none
	modified time.Time
	cuts     []int        // for each request in turn, after how many bytes it is cut
	ranges   []string     // that were asked for
	plain    bool         // knows no ranges
	status   []int        // for each request in turn, what is answered in place of the body
	seen     func() int64 // how many bytes the client has; for cuts
}

func (v *versions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	body, etag, modified, cut, status := v.body, v.etag, v.modified, -1, 0
	seen := v.seen
	v.ranges = append(v.ranges, r.Header.Get("Range"))
	if len(v.cuts) > 0 {
		cut, v.cuts = v.cuts[0], v.cuts[1:]
	}
	if len(v.status) > 0 {
		status, v.status = v.status[0], v.status[1:]
	}
	if v.plain {
		r.Header.Del("Range")
	}
	v.mu.Unlock()
	if status != 0 {
		http.Error(w, "not now", status)
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if cut >= 0 {
		from, _ := strconv.Atoi(strings.Trim(r.Header.Get("Range"), "bytes=-"))
		w = &cutWriter{ResponseWriter: w, left: cut, end: int64(from + cut), seen: seen}
	}
	http.ServeContent(w, r, "report.bin", modified, bytes.NewReader(body))
}

func (v *versions) asked() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.ranges...)
}

func (v *versions) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

// A cutWriter resets its stream once the client has so many bytes: a reset takes back
// what was not read before it.
type cutWriter struct {
	http.ResponseWriter
	left int
	end  int64 // of what the client has then
	seen func() int64
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	for deadline := time.Now().Add(patience); w.seen() < w.end && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	panic(http.ErrAbortHandler)
}

// partSize is how many bytes there are of path so far.
func partSize(path string) func() int64 {
	return func() int64 {
		info, err := os.Stat(path + partSuffix)
		if err != nil {
			return 0
		}
		return info.Size()
	}
}

var longAgo = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestGetResumes(t *testing.T) {
	const size = 1 << 20
	for _, tc := range []struct {
		name   string
		server *versions
		want   string // of the second Range
	}{
		{"entity tag", &versions{etag: `"v1"`}, "bytes="},
		{"date", &versions{modified: longAgo}, "bytes="},
		{"weak tag", &versions{etag: `W/"v1"`, modified: longAgo}, ""},
		{"fresh date", &versions{modified: time.Now().Add(time.Hour)}, ""},
		{"no validator", &versions{}, ""},
		{"no ranges", &versions{etag: `"v1"`, plain: true}, "bytes="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := tc.server
			v.body, v.cuts = noise(size), []int{size / 3, size / 3}
			s, _ := newSession(t, 3)
			path := filepath.Join(t.TempDir(), "copy")
			v.seen = partSize(path)
			res, err := s.Get(t.Context(), Download{URL: serve(t, v), Path: path})
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, v.body) {
				t.Fatalf("%d other bytes, %v", len(got), err)
			}
			if res.Attempts != 3 || res.SHA256 != sumOf(v.body) || !res.Complete || res.Bytes != size {
				t.Fatalf("%+v", res)
			}
			asked := v.asked()
			if asked[0] != "" || !strings.HasPrefix(asked[1], tc.want) || tc.want == "" && asked[1] != "" {
				t.Fatalf("ranges %q", asked)
			}
			wantFolder(t, filepath.Dir(path), "copy")
		})
	}
}

// TestGetContinues cuts one run and lets another go on.
func TestGetContinues(t *testing.T) {
	const size = 1 << 20
	v := &versions{body: noise(size), etag: `"v1"`, cuts: []int{size / 2}}
	u := serve(t, v)
	dir := t.TempDir()
	path := filepath.Join(dir, "copy")
	v.set(func() { v.seen = partSize(path) })

	s, said := newSession(t, 0)
	first, err := s.Get(t.Context(), Download{URL: u, Path: path})
	if err == nil || first.Complete || first.Bytes == 0 {
		t.Fatalf("the cut did not show: %+v, %v", first, err)
	}
	wantNote(t, said, fmt.Sprintf("copy.part keeps %d bytes", first.Bytes))
	wantFolder(t, dir, "copy.part", "copy.part.json")

	second, err := s.Get(t.Context(), Download{URL: u, Path: path, Continue: true, SHA256: sumOf(v.body)})
	if err != nil || second.Resumed != first.Bytes || second.SHA256 != sumOf(v.body) || second.Status != http.StatusPartialContent {
		t.Fatalf("%+v, %v", second, err)
	}
	if want := fmt.Sprintf("bytes=%d-", first.Bytes); v.asked()[1] != want {
		t.Fatalf("asked for %q, want %q", v.asked()[1], want)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, v.body) {
		t.Fatal("another body")
	}
	wantFolder(t, dir, "copy")
}

// TestGetNeverMixes changes what the server has between the cut and the next run.
func TestGetNeverMixes(t *testing.T) {
	const size = 1 << 20
	for _, tc := range []struct {
		name   string
		change func(*versions)
	}{
		{"new tag", func(v *versions) { v.etag = `"v2"` }},
		{"new tag, shorter than what is here", func(v *versions) { v.etag, v.body = `"v2"`, v.body[:100] }},
		{"new tag, empty", func(v *versions) { v.etag, v.body = `"v2"`, nil }},
		{"same tag, other length", func(v *versions) { v.body = append(v.body, 1) }},
		{"same tag, shorter than what is here", func(v *versions) { v.body = v.body[:100] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := &versions{body: noise(size), etag: `"v1"`, cuts: []int{size / 2}}
			u := serve(t, v)
			path := filepath.Join(t.TempDir(), "copy")
			v.set(func() { v.seen = partSize(path) })
			s, said := newSession(t, 0)
			if _, err := s.Get(t.Context(), Download{URL: u, Path: path}); err == nil {
				t.Fatal("the cut did not show")
			}
			v.set(func() {
				v.body = noise(size + 7)
				tc.change(v)
			})
			res, err := s.Get(t.Context(), Download{URL: u, Path: path, Continue: true})
			if err != nil || res.Resumed != 0 {
				t.Fatalf("%+v, %v\n%s", res, err, said)
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, v.body) || res.SHA256 != sumOf(v.body) {
				t.Fatalf("%d bytes, which are not those of the new version", len(got))
			}
		})
	}
}

func TestGetToStream(t *testing.T) {
	const size = 1 << 20
	for _, tc := range []struct {
		name    string
		etag    string
		attempt int // 0 for a failure
	}{{"strong", `"v1"`, 2}, {"weak", `W/"v1"`, 0}} {
		t.Run(tc.name, func(t *testing.T) {
			v := &versions{body: noise(size), etag: tc.etag, cuts: []int{size / 2}}
			s, _ := newSession(t, 2)
			var out notes
			v.seen = out.size
			res, err := s.Get(t.Context(), Download{URL: serve(t, v), Writer: &out})
			switch {
			case tc.attempt == 0 && !errors.Is(err, errWritten):
				t.Fatalf("%+v, %v", res, err)
			case tc.attempt == 0 && out.String() != string(v.body[:out.size()]):
				t.Fatal("something was written twice")
			case tc.attempt != 0 && (err != nil || out.String() != string(v.body) || res.Attempts != tc.attempt):
				t.Fatalf("%+v, %v, %d bytes", res, err, out.size())
			}
		})
	}
}

func TestGetStatus(t *testing.T) {
	for _, tc := range []struct {
		status   []int
		attempts int
		ok       bool
	}{
		{[]int{503, 429, 500}, 4, true},
		{[]int{503, 503, 503, 503, 503}, 4, false},
		{[]int{404}, 1, false},
		{[]int{507}, 1, false},
	} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			v := &versions{body: noise(100), status: tc.status}
			dir := t.TempDir()
			s, _ := newSession(t, 3)
			res, err := s.Get(t.Context(), Download{URL: serve(t, v), Path: filepath.Join(dir, "copy")})
			if (err == nil) != tc.ok || res.Attempts != tc.attempts {
				t.Fatalf("%+v, %v", res, err)
			}
			if !tc.ok {
				if !strings.Contains(err.Error(), "not now") {
					t.Fatalf("the reason is missing: %v", err)
				}
				wantFolder(t, dir)
			}
		})
	}
}

func TestGetSum(t *testing.T) {
	v := &versions{body: noise(100), etag: `"v1"`}
	dir := t.TempDir()
	s, _ := newSession(t, 0)
	_, err := s.Get(t.Context(), Download{URL: serve(t, v), Path: filepath.Join(dir, "copy"), SHA256: strings.Repeat("0", 64)})
	if err == nil || !strings.Contains(err.Error(), sumOf(v.body)) {
		t.Fatal(err)
	}
	wantFolder(t, dir)
}

func TestGetInterrupted(t *testing.T) {
	const size = 1 << 20
	v := &versions{body: noise(size), etag: `"v1"`}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	u := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", v.etag)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(v.body[:size/2])
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	defer close(over)
	dir := t.TempDir()
	path := filepath.Join(dir, "copy")
	s, said := newSession(t, 5)
	go func() {
		defer stop()
		for ctx.Err() == nil {
			if info, err := os.Stat(path + ".part"); err == nil && info.Size() == size/2 {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	res, err := s.Get(ctx, Download{URL: u, Path: path})
	if !errors.Is(err, context.Canceled) || res.Attempts != 1 || res.Bytes != size/2 {
		t.Fatalf("%+v, %v", res, err)
	}
	wantNote(t, said, "with -C goes on there")
	wantFolder(t, dir, "copy.part", "copy.part.json")
}
