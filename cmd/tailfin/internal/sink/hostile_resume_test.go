package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// forgeries are IDs that are made of a real one, and of nothing.
func forgeries(id string, n int) []string {
	list := []string{
		"", ".", "..", "../report", "../" + incoming, "/", id + "/", "/" + id, "./" + id, id + "\x00", id + ".part", id + ".json", id + "/..", id[:31], id + "0",
		strings.ToUpper(id), " " + id, id + " ", id + "\n", strings.Repeat("0", 32), strings.Repeat("A", 32), strings.Repeat("0", 31) + "/", strings.Repeat("../", 100_000),
	}
	if strings.ToUpper(id) == id {
		list = append(list[:15], list[16:]...) // there is no letter in it
	}
	for i := range id {
		for _, c := range "0f" {
			if rune(id[i]) != c {
				list = append(list, id[:i]+string(c)+id[i+1:])
			}
		}
	}
	for range n {
		list = append(list, fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()))
	}
	return list
}

// TestHostileTokens guesses the IDs of uploads, and says of a real one what is not so.
func TestHostileTokens(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	body := testBody(40_000)
	id := create(t, d, "report", -1)
	if _, err := d.Append(t.Context(), id, Part{Length: -1}, io.NopCloser(bytes.NewReader(body[:20_000]))); err != nil {
		t.Fatal(err)
	}
	fds := openFiles(t)
	tokens := hostile.Result{Kind: "client", Fault: "forged IDs of uploads, offsets and lengths that lie"}
	evil := func() io.ReadCloser { return io.NopCloser(strings.NewReader("evil")) }
	for _, forged := range forgeries(id, hostile.Size(1000, 100_000)) {
		tokens.Tries++
		_, ferr := d.Find(t.Context(), forged)
		_, aerr := d.Append(t.Context(), forged, Part{Offset: 20_000, Length: -1, Complete: true}, evil())
		cerr := d.Cancel(t.Context(), forged)
		if !errors.Is(ferr, ErrNoUpload) || !errors.Is(aerr, ErrNoUpload) || !errors.Is(cerr, ErrNoUpload) {
			t.Errorf("%.60q: %v, %v, %v", forged, ferr, aerr, cerr)
			tokens.Corrupt++
		}
	}
	for _, offset := range []int64{-1, 0, 1, 19_999, 20_001, math.MaxInt32 + 1, math.MaxInt64, math.MinInt64} {
		tokens.Tries++
		var wrong *OffsetError
		if _, err := d.Append(t.Context(), id, Part{Offset: offset, Length: -1, Complete: true}, evil()); !errors.As(err, &wrong) || wrong.Want != 20_000 {
			t.Errorf("offset %d: %v", offset, err)
			tokens.Corrupt++
		}
	}
	for _, length := range []int64{0, 1, 19_999} {
		tokens.Tries++
		var wrong *LengthError
		if _, err := d.Append(t.Context(), id, Part{Offset: 20_000, Length: length}, evil()); !errors.As(err, &wrong) {
			t.Errorf("length %d: %v", length, err)
			tokens.Corrupt++
		}
	}
	tokens.Tries++ // a length that nobody has room for is only a number
	if _, err := d.Append(t.Context(), id, Part{Offset: 20_000, Length: math.MaxInt64}, io.NopCloser(bytes.NewReader(body[20_000:30_000]))); err != nil {
		t.Error(err)
		tokens.Lost++
	}
	p, err := d.Find(t.Context(), id)
	if err != nil || p.Offset != 30_000 {
		t.Errorf("the upload has %+v, %v", p, err)
		tokens.Lost++
	}
	if got, err := os.ReadFile(filepath.Join(dir, partialsFolder, id+partSuffix)); err != nil || !bytes.Equal(got, body[:30_000]) {
		tokens.Corrupt++
	}
	tokens.Leaked = max(openFiles(t)-fds, 0) + len(d.resumable.writers) + len(files(t, dir)) - 2
	tokens.Bound = "128 random bits; none found, the upload as it was; 0 descriptors more"
	tokens.Report(t)
}

// closable is a body that comes in pieces, and whose reads end when it is closed.
type closable struct {
	io.Reader
	closed atomic.Bool
}

func (c *closable) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, errors.New("body was closed")
	}
	time.Sleep(time.Millisecond) // or none would find another at work
	return c.Reader.Read(p[:min(len(p), 5000)])
}

func (c *closable) Close() error { c.closed.Store(true); return nil }

// TestHostileClaims has many requests for one upload at the same time, each with a body
// of its own: one body at most is stored, and it is one of theirs.
func TestHostileClaims(t *testing.T) {
	const clients = 32
	claims := hostile.Result{Kind: "client", Fault: "32 requests at once that continue one upload, with bodies that differ"}
	stored, superseded := 0, 0
	for range hostile.Size(2, 200) {
		dir := t.TempDir()
		dirs := []*Dir{openDir(t, dir), openDir(t, dir)} // as before and behind a hand-over
		id := create(t, dirs[0], "report", -1)
		receipts := make(chan Receipt, clients)
		var wg sync.WaitGroup
		var taken atomic.Int64
		for i := range clients {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, 60_000+i)
				p, err := dirs[i%2].Append(t.Context(), id, Part{Length: -1, Complete: true}, &closable{Reader: bytes.NewReader(body)})
				var offset *OffsetError
				var busy *UnavailableError
				switch {
				case err == nil && p.Receipt != nil:
					receipts <- *p.Receipt
				case errors.Is(err, ErrSuperseded):
					taken.Add(1)
				case !errors.As(err, &offset) && !errors.As(err, &busy):
					t.Errorf("client %d: %+v, %v", i, p, err)
				}
			})
		}
		if !mustEnd(t, "some claim", wg.Wait) {
			claims.Crashed++
			break
		}
		claims.Tries += clients
		superseded += int(taken.Load())
		close(receipts)
		var first *Receipt
		for r := range receipts {
			if first != nil && r != *first {
				claims.Corrupt++
			}
			first = &r
		}
		got, err := os.ReadFile(filepath.Join(dir, "report"))
		switch {
		case first == nil && !errors.Is(err, os.ErrNotExist):
			t.Errorf("%d bytes are stored, and nobody was told: %v", len(got), err)
			claims.Corrupt++
		case first != nil:
			stored++
			if err != nil || hexSum(got) != first.SHA256 || int64(len(got)) != first.Bytes || !bytes.Equal(got, bytes.Repeat(got[:1], 60_000+int(got[0]))) {
				t.Errorf("receipt %+v, and %d bytes are stored, %v", first, len(got), err)
				claims.Corrupt++
			}
		}
		for _, d := range dirs {
			claims.Leaked += len(d.resumable.writers) // nobody has the upload
		}
	}
	claims.Bound = fmt.Sprintf("one writer at a time: %d stored whole, %d requests superseded, the rest 409", stored, superseded)
	claims.Report(t)
}

// TestHostileAbandoned begins uploads and finishes none, to fill the disk and the
// folder. Others' uploads go on, and in time everything is removed.
func TestHostileAbandoned(t *testing.T) {
	most := hostile.Size(300, 10_000)
	const maxBytes, each, clients = 1 << 20, 10_000, 8
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	d := openDirWith(t, dir, Options{Registerer: reg, Resume: ResumeLimits{MaxUploads: most, MaxBytes: maxBytes, MaxAge: time.Hour}})
	abandoned := hostile.Result{Kind: "client", Fault: "uploads that are begun and never finished", Tries: 2 * most}
	var refused, full, next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(abandoned.Tries); i = next.Add(1) {
				p, err := d.Create(context.Background(), Upload{Name: fmt.Sprint("never-", i)}, math.MaxInt64)
				if errors.Is(err, ErrTooMany) {
					refused.Add(1)
					continue
				}
				if err == nil {
					_, err = d.Append(context.Background(), p.ID, Part{Length: -1}, io.NopCloser(bytes.NewReader(testBody(each))))
				}
				if errors.Is(err, ErrTooMany) {
					full.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// Whoever sends a whole body is not hindered.
	if _, err := d.Store(t.Context(), Upload{Name: "honest"}, strings.NewReader("honest")); err != nil {
		t.Error(err)
		abandoned.Lost++
	}
	kept, size := 0, int64(0)
	for path, text := range tree(t, filepath.Join(dir, partialsFolder)) {
		switch filepath.Ext(path) {
		case partSuffix:
			kept, size = kept+1, size+int64(len(text))
		case metaSuffix:
		default:
			t.Errorf("there is %s", path)
			abandoned.Leaked++
		}
	}
	if kept > most || size > maxBytes || int64(kept)+refused.Load() < int64(abandoned.Tries) {
		t.Errorf("%d uploads with %d bytes are kept, %d refused", kept, size, refused.Load())
		abandoned.Leaked += max(kept-most, 1)
	}
	uploads, held := gauge(t, reg, "tailfin_sink_resumable_uploads"), gauge(t, reg, "tailfin_sink_resumable_bytes")
	if uploads != float64(kept) || held != float64(size) {
		t.Errorf("the metrics say %v uploads with %v bytes, and there are %d with %d", uploads, held, kept, size)
	}
	long := time.Now().Add(-2 * time.Hour)
	for path := range tree(t, filepath.Join(dir, partialsFolder)) {
		if err := os.Chtimes(filepath.Join(dir, partialsFolder, path), long, long); err != nil {
			t.Fatal(err)
		}
	}
	d.resumable.sweep(t.Context())
	abandoned.Leaked += len(files(t, dir)) - 1 // all but the honest one
	if n := gauge(t, reg, "tailfin_sink_resumable_uploads"); n != 0 {
		t.Errorf("%v uploads after all have expired", n)
	}
	create(t, d, "again", -1)
	expired := testutil.ToFloat64(d.resumable.expired)
	abandoned.Bound = fmt.Sprintf("tailfin_sink_resumable_uploads %d (%d), tailfin_sink_resumable_bytes %d (%d), %d told 503; tailfin_sink_resumable_expired_total %.0f, 0 files left",
		kept, most, size, maxBytes, refused.Load()+full.Load(), expired)
	abandoned.Report(t)
}

// gauge is the value of a metric without labels.
func gauge(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
