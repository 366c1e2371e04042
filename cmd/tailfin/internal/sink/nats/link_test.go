package natssink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// TestServerAway starts the sink before its server, and takes the server away.
func TestServerAway(t *testing.T) {
	p := newProcess(t)
	p.kill()
	reg := prometheus.NewRegistry()
	s := open(t, "nats://"+p.addr+"/UPLOADS?create=1&wait=300ms", Options{Registerer: reg})
	var unavailable *sink.UnavailableError
	refused := func() {
		t.Helper()
		if err := s.Check(t.Context()); !errors.As(err, &unavailable) {
			t.Fatalf("check without a server: %v", err)
		}
		for _, n := range []int{10, 1 << 20} {
			if _, err := s.Store(t.Context(), upload("report", n), bytes.NewReader(random(n))); !errors.As(err, &unavailable) || sink.IsFull(err) {
				t.Fatalf("store without a server: %v", err)
			}
		}
		if _, err := s.Open(t.Context(), "report"); !errors.As(err, &unavailable) {
			t.Fatalf("open without a server: %v", err)
		}
	}
	taken := func() {
		t.Helper()
		// A client that sends again until it is taken.
		var err error
		for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
			if _, err = s.Store(t.Context(), upload("report", 2), strings.NewReader("ok")); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := fetch(t, s, "report"); string(got) != "ok" {
			t.Fatalf("read back %q", got)
		}
	}
	refused()
	p.start(t)
	taken()
	p.kill()
	refused()
	if got := testutil.ToFloat64(s.m.connected); got != 0 {
		t.Errorf("tailfin_nats_connected is %v without a server", got)
	}
	p.start(t)
	taken()
	if testutil.ToFloat64(s.m.reconnects) == 0 || testutil.ToFloat64(s.m.connected) != 1 || testutil.ToFloat64(s.m.publishes.WithLabelValues(resultUnavailable)) < 4 {
		t.Error("the metrics do not tell")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

// TestRestartWithin has the server away for less than an upload waits: the client
// notices nothing.
func TestRestartWithin(t *testing.T) {
	p := newProcess(t)
	s := open(t, "nats://"+p.addr+"/UPLOADS?create=1&wait=60s", Options{})
	body := random(6 << 20)
	half := make(chan struct{})
	r, w := io.Pipe()
	go func() {
		_, _ = w.Write(body[:3<<20])
		close(half)
		_, _ = w.Write(body[3<<20:])
		_ = w.Close()
	}()
	result := make(chan error, 1)
	go func() {
		_, err := s.Store(t.Context(), upload("report", -1), r)
		result <- err
	}()
	<-half
	p.kill()
	p.start(t)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fetch(t, s, "report"), body) {
		t.Fatal("read back others")
	}
	v := look(t, p.addr)
	if list := v.messages(t); len(list) != 1 || !bytes.Equal(v.body(t, list[0]), body) {
		t.Fatalf("%d messages", len(list))
	}
}

// TestServerHangs stops the server without closing its connections. The number of
// messages under way has a bound, memory too, and it goes on when the server does.
func TestServerHangs(t *testing.T) {
	p := newProcess(t)
	const inFlight = 16
	s := open(t, fmt.Sprintf("nats://%s/UPLOADS?create=1&wait=500ms&ack-wait=1s&in-flight=%d", p.addr, inFlight), Options{})
	store(t, s, "report", []byte("before"))
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	stop := make(chan struct{})
	for i := range 100 {
		all.Go(func() {
			n := 1000
			if i%2 == 0 {
				n = 8 << 20
			}
			_, err := s.Store(t.Context(), upload("report", n), io.LimitReader(zeros{}, int64(n)))
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	peak := make(chan float64)
	go func() {
		var most float64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(time.Millisecond):
				most = max(most, s.inFlight())
			}
		}
	}()
	all.Wait()
	close(stop)
	if most := <-peak; most > inFlight || most == 0 {
		t.Errorf("%v messages in flight, at most %d are meant to be", most, inFlight)
	}
	for _, err := range errs {
		var unavailable *sink.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Errorf("with a server that hangs: %v", err)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; {
		if _, err := s.Store(t.Context(), upload("report", 5), strings.NewReader("after")); err == nil {
			break
		} else if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestMemory stores bodies many times the memory that it may take.
func TestMemory(t *testing.T) {
	p := newProcess(t) // not in this process, whose heap is looked at
	s := open(t, "nats://"+p.addr+"/UPLOADS?create=1", Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&after)
				most = max(most, after.HeapInuse)
			}
		}
	}()
	var all sync.WaitGroup
	const uploads, size = 4, 32 << 20
	for i := range uploads {
		all.Go(func() {
			if _, err := s.Store(t.Context(), upload(fmt.Sprint(i), size), io.LimitReader(zeros{}, size)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(stop)
	most := <-peak
	t.Logf("heap in use: %d KiB before, %d KiB at most, for %d MiB", before.HeapInuse>>10, most>>10, uploads*size>>20)
	if most > before.HeapInuse+32<<20 {
		t.Error("the heap grew with the bodies")
	}
}

// TestSlowBodyHoldsNothing has one upload that stalls with a chunk sent, and
// room for a single message in flight.
func TestSlowBodyHoldsNothing(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&in-flight=1", Options{})
	r, w := io.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := s.Store(t.Context(), upload("slow", 3*chunkSize), r)
		result <- err
	}()
	if _, err := w.Write(random(2*chunkSize + 1)); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		store(t, s, "quick", random(i))
	}
	if _, err := w.Write(random(chunkSize - 1)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

func TestClose(t *testing.T) {
	addr := inProcess(t, nil)
	reg := prometheus.NewRegistry()
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{Registerer: reg})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var unavailable *sink.UnavailableError
	if _, err := s.Store(t.Context(), upload("report", 1), strings.NewReader("x")); !errors.As(err, &unavailable) {
		t.Fatalf("store into a closed sink: %v", err)
	}
	if err := s.Check(t.Context()); !errors.As(err, &unavailable) {
		t.Fatalf("check of a closed sink: %v", err)
	}
	open(t, "nats://"+addr+"/UPLOADS", Options{Registerer: reg}) // the names are free again
}

func TestCredentials(t *testing.T) {
	const password = "p@ss/SECRET"
	addr := inProcess(t, func(o *server.Options) { o.Username, o.Password = "up", password })
	var log bytes.Buffer
	opts := Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	s, err := Open(t.Context(), "nats://up:p%40ss%2FSECRET@"+addr+"/UPLOADS?create=1", opts)
	if err != nil {
		t.Fatal(err)
	}
	store(t, s, "report", []byte("x"))
	_ = s.Close()
	_, err = Open(t.Context(), "nats://up:wrongSECRET@"+addr+"/UPLOADS", opts)
	if err == nil || !strings.Contains(err.Error(), "uthorization") {
		t.Fatalf("with a wrong password: %v", err)
	}
	_, missing := Open(t.Context(), "nats://"+addr+"/UPLOADS?creds="+filepath.Join(t.TempDir(), "absent.creds"), opts)
	if missing == nil || !strings.Contains(missing.Error(), "absent.creds") {
		t.Fatalf("with a file that is not there: %v", missing)
	}
	if all := log.String() + err.Error() + s.cfg.String() + fmt.Sprintf("%v %+v", s.cfg, *s.cfg); strings.Contains(all, "SECRET") {
		t.Fatalf("the password shows:\n%s", all)
	}
	token := inProcess(t, func(o *server.Options) { o.Authorization = "tok" })
	open(t, "nats://tok@"+token+"/UPLOADS?create=1", Options{})
}

// TestNotPermitted has a user that may look at the stream and not publish to it.
// A server does not answer what is not permitted; its reason comes apart.
func TestNotPermitted(t *testing.T) {
	addr := inProcess(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "all", Password: "x"},
			{Username: "look", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>"}}}},
		}
	})
	open(t, "nats://all:x@"+addr+"/UPLOADS?create=1", Options{})
	s := open(t, "nats://look:x@"+addr+"/UPLOADS?wait=500ms&ack-wait=500ms", Options{})
	_, err := s.Store(t.Context(), upload("report", 1), strings.NewReader("x"))
	var unavailable *sink.UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(strings.ToLower(err.Error()), "permissions violation") || !strings.Contains(err.Error(), "UPLOADS.report") {
		t.Fatalf("not permitted: %v", err)
	}
}
