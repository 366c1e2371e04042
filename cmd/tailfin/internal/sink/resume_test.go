package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func openDirWith(t *testing.T, path string, opts Options) *Dir {
	t.Helper()
	d, err := OpenDir(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func create(t *testing.T, d *Dir, name string, length int64) string {
	t.Helper()
	p, err := d.Create(t.Context(), Upload{Name: name}, length)
	if err != nil {
		t.Fatal(err)
	}
	if p.Offset != 0 || p.Length != length || p.Receipt != nil || !p.Expires.After(time.Now()) {
		t.Fatalf("a new upload: %+v", p)
	}
	return p.ID
}

func find(t *testing.T, d *Dir, id string) Partial {
	t.Helper()
	p, err := d.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// random bytes that do not repeat where chunks do.
func testBody(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + i>>16)
	}
	return b
}

// TestResume cuts an upload at many places, restarts in between, and wants the
// whole of it in the end.
func TestResume(t *testing.T) {
	for _, length := range []int64{-1, 1 << 20} {
		dir := t.TempDir()
		body := testBody(1 << 20)
		cut := errors.New("connection lost")
		d := openDir(t, dir)
		id := create(t, d, "report", length)
		offset := int64(0)
		for _, n := range []int{0, 1, smallSize, chunkSize, chunkSize + 1, 300_000} {
			part := body[offset : offset+int64(n)]
			_, err := d.Append(t.Context(), id, Part{Offset: offset, Length: -1, Complete: true},
				io.NopCloser(io.MultiReader(bytes.NewReader(part), iotest.ErrReader(cut))))
			if !errors.Is(err, cut) {
				t.Fatalf("cut after %d bytes: %v", n, err)
			}
			offset += int64(n)
			if got := files(t, dir); len(got) != 2 {
				t.Fatalf("files %v, want the two of the upload", got)
			}
			_ = d.Close()
			d = openDir(t, dir)
			if p := find(t, d, id); p.Offset != offset || p.Length != length || p.Receipt != nil {
				t.Fatalf("after a cut at %d: %+v", offset, p)
			}
			if _, err := d.Open(t.Context(), "report"); !IsNotFound(err) {
				t.Fatalf("a part is there under the final name: %v", err)
			}
		}
		p, err := d.Append(t.Context(), id, Part{Offset: offset, Length: int64(len(body)), Complete: true}, io.NopCloser(bytes.NewReader(body[offset:])))
		if err != nil {
			t.Fatal(err)
		}
		want := Receipt{Name: "report", Bytes: int64(len(body)), SHA256: hexSum(body)}
		if p.Receipt == nil || *p.Receipt != want {
			t.Fatalf("receipt %+v, want %+v", p.Receipt, want)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "report")); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("stored %d bytes, %v", len(got), err)
		}
		// Its client may have lost the answer.
		_ = d.Close()
		d = openDir(t, dir)
		if p := find(t, d, id); p.Receipt == nil || *p.Receipt != want || p.Offset != want.Bytes {
			t.Fatalf("after completion: %+v", p)
		}
		p, err = d.Append(t.Context(), id, Part{Offset: want.Bytes, Length: -1, Complete: true}, io.NopCloser(strings.NewReader("")))
		if err != nil || p.Receipt == nil || *p.Receipt != want {
			t.Fatalf("the answer once more: %+v, %v", p, err)
		}
		var off *OffsetError
		if _, err = d.Append(t.Context(), id, Part{Offset: 0, Length: -1, Complete: true}, io.NopCloser(strings.NewReader("x"))); !errors.As(err, &off) || !off.Complete {
			t.Fatalf("more for a complete upload: %v", err)
		}
	}
}

func TestResumeParts(t *testing.T) {
	d := openDir(t, t.TempDir())
	id := create(t, d, "report", -1)
	body := testBody(100_000)
	for offset := 0; offset < len(body); offset += 25_000 {
		p, err := d.Append(t.Context(), id, Part{Offset: int64(offset), Length: -1}, io.NopCloser(bytes.NewReader(body[offset:offset+25_000])))
		if err != nil || p.Offset != int64(offset+25_000) || p.Receipt != nil {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	p, err := d.Append(t.Context(), id, Part{Offset: int64(len(body)), Length: -1, Complete: true}, io.NopCloser(strings.NewReader("")))
	if err != nil || p.Receipt == nil || p.Receipt.SHA256 != hexSum(body) {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestResumeErrors(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	body := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	for _, id := range []string{"", "..", "../report", strings.Repeat("0", 32), strings.Repeat("G", 32), strings.Repeat("A", 32), strings.Repeat("0", 31) + "/"} {
		if _, err := d.Find(t.Context(), id); !errors.Is(err, ErrNoUpload) {
			t.Errorf("find %q: %v", id, err)
		}
		if _, err := d.Append(t.Context(), id, Part{Length: -1}, body("x")); !errors.Is(err, ErrNoUpload) {
			t.Errorf("append to %q: %v", id, err)
		}
		if err := d.Cancel(t.Context(), id); !errors.Is(err, ErrNoUpload) {
			t.Errorf("cancel %q: %v", id, err)
		}
	}
	var bad *NameError
	if _, err := d.Create(t.Context(), Upload{Name: "../x"}, -1); !errors.As(err, &bad) {
		t.Errorf("a bad name: %v", err)
	}

	id := create(t, d, "report", 10)
	var off *OffsetError
	if _, err := d.Append(t.Context(), id, Part{Offset: 3, Length: -1}, body("x")); !errors.As(err, &off) || off.Want != 0 || off.Got != 3 {
		t.Errorf("a gap: %v", err)
	}
	var length *LengthError
	if _, err := d.Append(t.Context(), id, Part{Length: 11}, body("x")); !errors.As(err, &length) {
		t.Errorf("another length: %v", err)
	}
	if _, err := d.Append(t.Context(), id, Part{Length: -1, Complete: true}, body("short")); !errors.As(err, &length) {
		t.Errorf("complete and too short: %v", err)
	}
	if p := find(t, d, id); p.Offset != 5 {
		t.Errorf("what came is not kept: %+v", p)
	}
	if _, err := d.Append(t.Context(), id, Part{Offset: 5, Length: -1}, body("too long")); !errors.As(err, &length) {
		t.Errorf("longer than announced: %v", err)
	}
	if _, err := d.Find(t.Context(), id); !errors.Is(err, ErrNoUpload) {
		t.Errorf("an upload that nobody can make sense of lives on: %v", err)
	}

	id = create(t, d, "report", -1)
	if err := d.Cancel(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := d.Find(t.Context(), id); !errors.Is(err, ErrNoUpload) {
		t.Errorf("after cancel: %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}

	// A folder has the name: the upload can never be stored.
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	id = create(t, d, "taken", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1, Complete: true}, body("x")); !errors.As(err, &bad) {
		t.Errorf("a name that a folder has: %v", err)
	}
	if _, err := d.Store(t.Context(), Upload{Name: "taken"}, strings.NewReader("x")); !errors.As(err, &bad) {
		t.Errorf("store to a name that a folder has: %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// stuckBody delivers some bytes and then waits until it is closed, like the body of
// a client that has vanished.
type stuckBody struct {
	io.Reader
	waits, closed chan struct{}
}

func newStuckBody(b []byte) *stuckBody {
	s := &stuckBody{waits: make(chan struct{}), closed: make(chan struct{})}
	s.Reader = io.MultiReader(bytes.NewReader(b), readerFunc(func([]byte) (int, error) {
		close(s.waits)
		<-s.closed
		return 0, errors.New("body was closed")
	}))
	return s
}

func (s *stuckBody) Close() error { close(s.closed); return nil }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestResumeSupersedes asks for an upload whose client has vanished, in the same
// process and from another Dir, as another process would.
func TestResumeSupersedes(t *testing.T) {
	for _, other := range []bool{false, true} {
		dir := t.TempDir()
		d := openDir(t, dir)
		asker := d
		if other {
			asker = openDir(t, dir)
		}
		id := create(t, d, "report", -1)
		body := testBody(70_000)
		stuck := newStuckBody(body[:50_000])
		ended := make(chan error, 1)
		go func() {
			_, err := d.Append(context.Background(), id, Part{Length: -1, Complete: true}, stuck)
			ended <- err
		}()
		<-stuck.waits
		if p := find(t, asker, id); p.Offset != 50_000 {
			t.Fatalf("other %v: %+v", other, p)
		}
		if err := <-ended; !errors.Is(err, ErrSuperseded) {
			t.Fatalf("other %v: the former request ended with %v", other, err)
		}
		p, err := asker.Append(t.Context(), id, Part{Offset: 50_000, Length: -1, Complete: true}, io.NopCloser(bytes.NewReader(body[50_000:])))
		if err != nil || p.Receipt == nil || p.Receipt.SHA256 != hexSum(body) {
			t.Fatalf("other %v: %+v, %v", other, p, err)
		}
		if got := files(t, dir); len(got) != 2 { // and what is remembered of it
			t.Fatalf("other %v: files %v", other, got)
		}
	}
}

// TestResumeAfterCrash has what a crash leaves: bytes that no ID.json knows.
func TestResumeAfterCrash(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	body := testBody(100_000)
	id := create(t, d, "report", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1}, io.NopCloser(bytes.NewReader(body[:10_000]))); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	part, meta := filepath.Join(dir, partialsFolder, id+partSuffix), filepath.Join(dir, partialsFolder, id+metaSuffix)
	grow := func() {
		t.Helper()
		if err := os.WriteFile(part, body[:60_000], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	grow()
	d = openDir(t, dir)
	if p := find(t, d, id); p.Offset != 60_000 {
		t.Fatalf("the daemon crashed, and what it had written is not kept: %+v", p)
	}
	_ = d.Close()

	// The same after a boot: what was not synced may be anything.
	if err := os.WriteFile(meta, bytes.Replace(old, []byte(bootID()), []byte("another"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	grow()
	d = openDir(t, dir)
	if p := find(t, d, id); p.Offset != 10_000 {
		t.Fatalf("the system crashed, and what was never synced is told: %+v", p)
	}
	p, err := d.Append(t.Context(), id, Part{Offset: 10_000, Length: -1, Complete: true}, io.NopCloser(bytes.NewReader(body[10_000:])))
	if err != nil || p.Receipt.SHA256 != hexSum(body) {
		t.Fatalf("%+v, %v", p, err)
	}

	// Bytes that were acknowledged are gone: so is the upload.
	id = create(t, d, "report", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1}, io.NopCloser(bytes.NewReader(body))); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, partialsFolder, id+partSuffix), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(t.Context(), id); !errors.Is(err, ErrNoUpload) {
		t.Fatalf("an upload that lost bytes lives on: %v", err)
	}
}

func TestResumeLimits(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	d := openDirWith(t, dir, Options{Registerer: reg, Resume: ResumeLimits{MaxUploads: 2, MaxBytes: 300_000, MaxAge: time.Hour}})
	a, b := create(t, d, "a", -1), create(t, d, "b", -1)
	if _, err := d.Create(t.Context(), Upload{Name: "c"}, -1); !errors.Is(err, ErrTooMany) {
		t.Fatalf("a third upload: %v", err)
	}
	if p, err := d.Append(t.Context(), a, Part{Length: -1}, io.NopCloser(bytes.NewReader(testBody(200_000)))); err != nil || p.Offset != 200_000 {
		t.Fatal(p, err)
	}
	if _, err := d.Append(t.Context(), b, Part{Length: -1}, io.NopCloser(bytes.NewReader(testBody(200_000)))); !errors.Is(err, ErrTooMany) {
		t.Fatalf("more bytes than are kept: %v", err)
	}
	if p := find(t, d, b); p.Offset > 100_000 {
		t.Fatalf("more bytes than are kept: %+v", p)
	}
	if n, err := testutil.GatherAndCount(reg, "tailfin_sink_resumable_uploads", "tailfin_sink_resumable_bytes"); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	// What expires makes room; so does a restart not.
	_ = d.Close()
	d = openDirWith(t, dir, Options{Resume: ResumeLimits{MaxUploads: 2, MaxAge: time.Hour}})
	if _, err := d.Create(t.Context(), Upload{Name: "c"}, -1); !errors.Is(err, ErrTooMany) {
		t.Fatalf("a third upload after a restart: %v", err)
	}
	long := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, partialsFolder, a+partSuffix), long, long); err != nil {
		t.Fatal(err)
	}
	d.resumable.sweep(t.Context())
	if _, err := d.Find(t.Context(), a); !errors.Is(err, ErrNoUpload) {
		t.Fatalf("an expired upload: %v", err)
	}
	if n := testutil.ToFloat64(d.resumable.expired); n != 1 {
		t.Fatalf("%v expired", n)
	}
	create(t, d, "c", -1)
	find(t, d, b)
}

// TestCompleteIsForgotten has the memory of complete uploads end.
func TestCompleteIsForgotten(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	id := create(t, d, "report", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1, Complete: true}, io.NopCloser(strings.NewReader("x"))); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * doneAge)
	if err := os.Chtimes(filepath.Join(dir, partialsFolder, id+metaSuffix), long, long); err != nil {
		t.Fatal(err)
	}
	d.resumable.sweep(t.Context())
	if got := files(t, dir); len(got) != 1 || got[0] != "report" {
		t.Fatalf("files %v, want report alone", got)
	}
}
