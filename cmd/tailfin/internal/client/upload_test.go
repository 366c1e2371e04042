package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func same(id string) string { return id }

// stateDir gives the journals a folder of the test's own, and returns it.
func stateDir(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", dir)
	return filepath.Join(dir, "tailfin", "uploads")
}

func journals(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(entries)
}

// TestPutResumes has what can happen to an upload within one run.
func TestPutResumes(t *testing.T) {
	const size, third = 900_000, 300_000
	for _, tc := range []struct {
		name   string
		server *draftServer
		want   string // requests
		failed string // part of the error; empty for success
	}{
		{name: "one cut", server: &draftServer{location: same, plan: []fault{{after: third}}},
			want: "PUT 0+300000, HEAD 300000, PATCH 300000+600000"},
		{name: "cuts", server: &draftServer{location: same, plan: []fault{{after: third}, {after: third}, {after: 0}}},
			want: "PUT 0+300000, HEAD 300000, PATCH 300000+300000, HEAD 600000, PATCH 600000+0, HEAD 600000, PATCH 600000+300000"},
		{name: "503", server: &draftServer{location: same, plan: []fault{{after: third, status: 503}}},
			want: "PUT 0+300000, HEAD 300000, PATCH 300000+600000"},
		{name: "the last answer is lost", server: &draftServer{location: same, plan: []fault{{after: -1, status: 502}}},
			want: "PUT 0+900000, HEAD 900000, PATCH 900000+0"},
		{name: "503 that is final", server: &draftServer{location: same, plan: []fault{{after: -1, status: 503, final: true}}},
			want: "PUT 0+900000", failed: "503"},
		{name: "507", server: &draftServer{location: same, plan: []fault{{after: third, status: 507}}},
			want: "PUT 0+300000", failed: "507"},
		{name: "absolute location", server: &draftServer{plan: []fault{{after: third}}},
			want: "PUT 0+300000, HEAD 300000, PATCH 300000+600000"},
		{name: "server without it", server: &draftServer{plan: []fault{{after: third}}},
			want: "PUT 0+300000, PUT 0+900000"},
		{name: "another version of the draft", server: &draftServer{location: same, interop: "7", plan: []fault{{after: third}}},
			want: "PUT 0+300000, PUT 0+900000"},
		{name: "location elsewhere", server: &draftServer{location: func(id string) string { return "https://192.0.2.1" + id }, plan: []fault{{after: third}}},
			want: "PUT 0+300000, PUT 0+900000"},
		{name: "in parts", server: &draftServer{location: same, limit: "max-append-size=400000"},
			want: "HEAD, PATCH 400000, PATCH, PATCH"},
		{name: "too long", server: &draftServer{location: same, limit: "max-size=1000"},
			want: "DELETE", failed: "takes 1000 bytes at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := stateDir(t)
			d := tc.server
			d.state = state
			u := serve(t, d)
			if tc.name == "absolute location" {
				d.location = func(id string) string { return "https://" + u.Host + id }
			}
			body := noise(size)
			s, said := newSession(t, 2)
			res, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, body), Resumable: true})
			switch got := d.requests(); {
			case strings.HasPrefix(tc.want, "PUT") && got != tc.want:
				t.Errorf("requests %s, want %s", got, tc.want)
			case tc.name == "in parts" && strings.Count(got, "PATCH") < 2, tc.name == "too long" && !strings.Contains(got, tc.want):
				t.Errorf("requests %s", got)
			}
			if tc.failed != "" {
				if err == nil || !strings.Contains(err.Error(), tc.failed) {
					t.Errorf("%+v, %v", res, err)
				}
			} else if err != nil || !bytes.Equal(d.body(u.Path), body) || res.SHA256 != sumOf(body) || res.Status != http.StatusCreated || res.Bytes != size {
				t.Errorf("%+v, %v; %d bytes stored", res, err, len(d.body(u.Path)))
			}
			if n := journals(t, state); n != 0 {
				t.Errorf("%d journals left", n)
			}
			if t.Failed() {
				t.Logf("notes:\n%s", said)
			}
		})
	}
}

// TestPutResumesLater cuts one run, and lets another go on or not.
func TestPutResumesLater(t *testing.T) {
	const size, third = 900_000, 300_000
	for _, tc := range []struct {
		name    string
		between func(t *testing.T, d *draftServer, file string)
		plain   bool // the second run is not asked to resume
		want    string
		resumed int64
	}{
		{name: "resumed", want: "PUT 0+300000, HEAD 300000, PATCH 300000+600000", resumed: third},
		{name: "not asked to", plain: true, want: "PUT 0+300000, PUT 0+900000"},
		{name: "the file has changed", want: "PUT 0+300000, PUT 0+900000", between: func(t *testing.T, _ *draftServer, file string) {
			if err := os.WriteFile(file, noise(size), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, longAgo, longAgo); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the server has forgotten", want: "PUT 0+300000, HEAD nothing, PUT 0+900000", between: func(_ *testing.T, d *draftServer, _ string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			clear(d.uploads)
		}},
		{name: "the server has more than there is", want: "PUT 0+300000, HEAD 1000000, PUT 0+900000", between: func(_ *testing.T, d *draftServer, _ string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.uploads["/.uploads/0"].data = make([]byte, 1_000_000)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := stateDir(t)
			d := &draftServer{location: same, state: state, plan: []fault{{after: third}}}
			u := serve(t, d)
			file := writeFile(t, noise(size))
			s, said := newSession(t, 0)
			if _, err := s.Put(t.Context(), Upload{URL: u, Path: file, Resumable: true}); err == nil {
				t.Fatal("the cut did not show")
			}
			wantNote(t, said, "the same command with --resume goes on there")
			if n := journals(t, state); n != 1 {
				t.Fatalf("%d journals", n)
			}
			if tc.between != nil {
				tc.between(t, d, file)
			}
			later, said := newSession(t, 0)
			res, err := later.Put(t.Context(), Upload{URL: u, Path: file, Resumable: true, Resume: !tc.plain})
			body, _ := os.ReadFile(file)
			if err != nil || res.Resumed != tc.resumed || res.SHA256 != sumOf(body) || !bytes.Equal(d.body(u.Path), body) {
				t.Fatalf("%+v, %v\n%s\n%s", res, err, d.requests(), said)
			}
			if got := d.requests(); got != tc.want {
				t.Fatalf("requests %s, want %s", got, tc.want)
			}
			if n := journals(t, state); n != 0 {
				t.Fatalf("%d journals left", n)
			}
		})
	}
}

// TestPutOfAChangingFile must not join two versions of a file.
func TestPutOfAChangingFile(t *testing.T) {
	state := stateDir(t)
	file := writeFile(t, noise(900_000))
	d := &draftServer{location: same, state: state, plan: []fault{{after: 300_000}}, changes: func() {
		_ = os.WriteFile(file, make([]byte, 900_000), 0o600)
		_ = os.Chtimes(file, longAgo, longAgo)
	}}
	u := serve(t, d)
	s, _ := newSession(t, 3)
	_, err := s.Put(t.Context(), Upload{URL: u, Path: file, Resumable: true})
	if err == nil || !strings.Contains(err.Error(), "changed while it was sent") || d.body(u.Path) != nil {
		t.Fatalf("%v, %s", err, d.requests())
	}
}

// TestPutOfAPipe can be sent once; before it was read it may be tried again.
func TestPutOfAPipe(t *testing.T) {
	d := &draftServer{plan: []fault{{after: 100}}}
	u := serve(t, d)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = w.Write(noise(900_000))
		_ = w.Close()
	}()
	s, _ := newSession(t, 3)
	defer func() { _ = r.Close() }()
	_, err = s.Put(t.Context(), Upload{URL: u, Path: fmt.Sprintf("/proc/self/fd/%d", r.Fd()), Resumable: true})
	if !errors.Is(err, errReadOnce) || d.requests() != "PUT 0+100" {
		t.Fatalf("%v, %s", err, d.requests())
	}
	if d.headers[0].Get(fieldComplete) != "" {
		t.Fatal("an upload that cannot be resumed was offered as one that can")
	}
}

func TestPutFields(t *testing.T) {
	stateDir(t)
	d := &draftServer{location: same}
	u := serve(t, d)
	s, _ := newSession(t, 0)
	s.Header = http.Header{"Authorization": {"Bearer x"}}
	for _, resumable := range []bool{false, true} {
		if _, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, noise(10)), Resumable: resumable}); err != nil {
			t.Fatal(err)
		}
	}
	if plain := d.headers[0]; plain.Get(fieldComplete) != "" || plain.Get(fieldInterop) != "" || plain.Get("Authorization") != "Bearer x" {
		t.Fatalf("%v", plain)
	}
	if h := d.headers[1]; h.Get(fieldComplete) != "?1" || h.Get(fieldInterop) != "8" || h.Get(fieldLength) != "10" {
		t.Fatalf("%v", h)
	}
}

func TestPutEmpty(t *testing.T) {
	stateDir(t)
	d := &draftServer{location: same}
	u := serve(t, d)
	s, _ := newSession(t, 0)
	res, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, nil), Resumable: true})
	if err != nil || res.SHA256 != sumOf(nil) || d.body(u.Path) == nil && len(d.stored) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestPutReceipt does not take the word of a server that has stored other bytes.
func TestPutReceipt(t *testing.T) {
	u := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"sha256":%q}`, sumOf([]byte("something else")))
	}))
	s, _ := newSession(t, 0)
	if _, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, noise(10))}); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Fatal(err)
	}
}

func TestTimeout(t *testing.T) {
	over := make(chan struct{})
	u := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer close(over)
	s, _ := newSession(t, 5)
	s.Timeout = 200 * time.Millisecond
	res, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, noise(10))})
	if err == nil || !strings.Contains(err.Error(), "--timeout") || res.Attempts != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// TestPutWithoutState has nowhere to remember an upload, which goes on within its run.
func TestPutWithoutState(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", writeFile(t, nil)) // no folder can be in a file
	body := noise(900_000)
	d := &draftServer{location: same, plan: []fault{{after: 300_000, status: 503}}}
	u := serve(t, d)
	s, said := newSession(t, 1)
	_, err := s.Put(t.Context(), Upload{URL: u, Path: writeFile(t, body), Resumable: true})
	if err != nil || !bytes.Equal(d.body(u.Path), body) || !strings.Contains(d.requests(), "PATCH 300000") {
		t.Fatalf("%v, %s", err, d.requests())
	}
	if strings.Contains(said.String(), "later run") {
		t.Fatalf("nobody has asked:\n%s", said)
	}
}
