package receiver

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// stalledSink reads some of each body, and then no more until it is let go.
type stalledSink struct {
	sink.Sink
	stalled chan struct{} // has an element for each
	release chan struct{}
}

// stallAt is how much of a body it reads, in bytes.
const stallAt = 256 << 10

func (s *stalledSink) Store(_ context.Context, _ sink.Upload, body io.Reader) (sink.Receipt, error) {
	if _, err := io.CopyN(io.Discard, body, stallAt); err != nil {
		return sink.Receipt{}, err
	}
	s.stalled <- struct{}{}
	<-s.release
	return sink.Receipt{}, context.Canceled
}

// endless is a body that costs no memory, and counts what is read of it.
type endless struct{ read *atomic.Int64 }

func (e endless) Read(p []byte) (int, error) {
	e.read.Add(int64(len(p)))
	return len(p), nil
}

// TestBackPressure has 64 uploads of 100 MB to a sink that stops. Flow control must
// stop the clients, and neither side may hold what the sink has not taken.
func TestBackPressure(t *testing.T) {
	const size, bound = 100 << 20, 8 << 20 // the bound is for each upload, of both sides
	uploads := 64
	if underRace {
		uploads = 8
	}
	s := &stalledSink{stalled: make(chan struct{}), release: make(chan struct{})}
	// One request a connection, so that no window is shared.
	url, roots := quicServer(t, &Handler{Sink: s}, func(s *tailfin.Server) { s.MaxRequestsPerConn = 1 })
	tr := quicClient(t, roots)
	tr.MaxConnsPerHost, tr.DialTimeout = uploads, time.Minute
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	var clients sync.WaitGroup
	for range uploads {
		failed := make(chan error, 1)
		clients.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/x", io.LimitReader(endless{&sent}, size))
			if err == nil {
				req.ContentLength = size
				var resp *http.Response
				if resp, err = tr.RoundTrip(req); err == nil {
					_ = resp.Body.Close()
				}
			}
			failed <- err
		})
		select {
		case <-s.stalled:
		case err := <-failed:
			t.Fatalf("an upload ended before the sink stopped: %v", err)
		}
	}
	// Clients go on until the windows are full. They are when nothing moves.
	for last, still := int64(-1), 0; still < 5; time.Sleep(100 * time.Millisecond) {
		now := sent.Load()
		if now == last {
			still++
		} else {
			last, still = now, 0
		}
	}
	used := int64(heap()) - int64(before)
	t.Logf("%d uploads stand at %d of %d MB; the heap grew by %d MB", uploads, sent.Load()>>20, uploads*size>>20, used>>20)
	if n := sent.Load(); n > int64(uploads)*(stallAt+bound) {
		t.Errorf("clients sent %d MB, far beyond what the sink has read", n>>20)
	}
	if used > int64(uploads)*bound {
		t.Errorf("the heap grew by %d MB", used>>20)
	}
	close(s.release)
	cancel()
	clients.Wait()
}

// TestSlowDownload has a client that reads some of a large object, and then waits:
// neither side may hold the rest.
func TestSlowDownload(t *testing.T) {
	dir := t.TempDir()
	d, err := sink.OpenDir(dir, sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	const size, bound = 1 << 30, 64 << 20
	f, err := os.Create(filepath.Join(dir, "large"))
	if err == nil {
		err = f.Truncate(size) // without blocks: it costs no disk
		_ = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	url, roots := quicServer(t, &Handler{Sink: d})
	tr := quicClient(t, roots)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/large", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ContentLength != size {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		time.Sleep(50 * time.Millisecond)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if m.HeapAlloc > bound {
			t.Fatalf("%d MB are held", m.HeapAlloc>>20)
		}
	}
}
