package natssink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

func TestStoreAndOpen(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&inline=10000", Options{})
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	sizes := []int{0, 1, 9_999, 10_000, 10_001, chunkSize - 1, chunkSize, chunkSize + 1, 20*chunkSize + 7}
	bodies := make([][]byte, len(sizes))
	for i, n := range sizes {
		bodies[i] = random(n)
		store(t, s, fmt.Sprintf("body %d.bin", i), bodies[i])
		if got := fetch(t, s, fmt.Sprintf("body %d.bin", i)); !bytes.Equal(got, bodies[i]) {
			t.Errorf("%d bytes: read back %d others", n, len(got))
		}
	}
	v := look(t, addr)
	list := v.messages(t)
	if len(list) != len(sizes) {
		t.Fatalf("%d messages for %d uploads", len(list), len(sizes))
	}
	for i, m := range list {
		if want := fmt.Sprintf("UPLOADS.body%%20%d%%2Ebin", i); m.Subject != want {
			t.Errorf("subject %s, want %s", m.Subject, want)
		}
		kind := BodyInline
		if sizes[i] > 10_000 {
			kind = BodyObject
		}
		if h := m.Header; h.Get(HeaderBody) != kind || h.Get(HeaderSize) != fmt.Sprint(sizes[i]) || h.Get(HeaderSHA256) != sumOf(bodies[i]) ||
			h.Get(HeaderPeer) != "192.0.2.1:999" || h.Get(HeaderMethod) != "PUT" || h.Get(HeaderHost) != "example.net" {
			t.Errorf("%d bytes: headers %v", sizes[i], h)
		}
		if !bytes.Equal(v.body(t, m), bodies[i]) {
			t.Errorf("%d bytes: another client reads others", sizes[i])
		}
	}
	if _, err := s.Open(t.Context(), "absent"); !sink.IsNotFound(err) {
		t.Errorf("open of nothing: %v", err)
	}
	var bad *sink.NameError
	if _, err := s.Store(t.Context(), upload("../x", 0), strings.NewReader("")); !errors.As(err, &bad) {
		t.Errorf("name ../x: %v", err)
	}
}

// TestUnknownLength has bodies whose length the client did not announce, in
// small reads.
func TestUnknownLength(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&inline=1000", Options{})
	for _, n := range []int{0, 1000, 1001, 400_000} {
		body := random(n)
		up := upload("report", -1)
		if r, err := s.Store(t.Context(), up, iotest.HalfReader(bytes.NewReader(body))); err != nil || r.Bytes != int64(n) || r.SHA256 != sumOf(body) {
			t.Fatalf("%d bytes: %+v, %v", n, r, err)
		}
		if !bytes.Equal(fetch(t, s, "report"), body) {
			t.Fatalf("%d bytes: read back others", n)
		}
	}
}

// TestReplace has a second upload under a name while a reader is in the middle
// of the first.
func TestReplace(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	first, second := random(1<<20), random(1<<20)
	store(t, s, "report", first)
	obj, err := s.Open(t.Context(), "report")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(obj, head); err != nil {
		t.Fatal(err)
	}
	store(t, s, "report", second)
	rest, err := io.ReadAll(obj)
	if err != nil || !bytes.Equal(append(head, rest...), first) {
		t.Fatalf("the first upload was lost to its reader: %d bytes, %v", len(rest), err)
	}
	if !bytes.Equal(fetch(t, s, "report"), second) {
		t.Fatal("the second upload is not what is read")
	}
}

func TestRange(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	body := random(3*chunkSize + 100)
	store(t, s, "report", body)
	obj, err := s.Open(t.Context(), "report")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{3*chunkSize + 50, 0, chunkSize - 1, 2 * chunkSize, 5, int64(len(body))} {
		if _, err := obj.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, min(200, int64(len(body))-at))
		if _, err := io.ReadFull(obj, got); err != nil || !bytes.Equal(got, body[at:at+int64(len(got))]) {
			t.Fatalf("at %d: other bytes, %v", at, err)
		}
	}
	if n, err := obj.Seek(-10, io.SeekEnd); err != nil || n != int64(len(body))-10 {
		t.Fatalf("seek from the end: %d, %v", n, err)
	}
	if _, err := obj.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("a seek before the start")
	}
}

func TestBrokenBodyChangesNothing(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	store(t, s, "report", []byte("good"))
	for _, cut := range []error{errors.New("connection lost"), io.ErrUnexpectedEOF} {
		for _, n := range []int{10, 2 << 20} {
			body := io.MultiReader(bytes.NewReader(random(n)), iotest.ErrReader(cut))
			_, err := s.Store(t.Context(), upload("report", -1), body)
			var unavailable *sink.UnavailableError
			if !errors.Is(err, cut) || errors.As(err, &unavailable) {
				t.Fatalf("stored a broken body: %v", err)
			}
		}
	}
	if got := fetch(t, s, "report"); string(got) != "good" {
		t.Fatalf("what was stored became %q", got)
	}
	v := look(t, addr)
	if whole, begun := v.objects(t); whole != 0 || begun != 0 || len(v.messages(t)) != 1 {
		t.Fatalf("%d objects, %d begun, %d messages", whole, begun, len(v.messages(t)))
	}
}

// TestSmallPayload has a server that takes messages of 16 KiB at most.
func TestSmallPayload(t *testing.T) {
	addr := inProcess(t, func(o *server.Options) { o.MaxPayload = 16 << 10 })
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	v := look(t, addr)
	for _, n := range []int{1000, 14 << 10, 16 << 10, 300_000} {
		body := random(n)
		store(t, s, "report", body)
		if !bytes.Equal(fetch(t, s, "report"), body) {
			t.Fatalf("%d bytes: read back others", n)
		}
	}
	for _, m := range v.messages(t) {
		v.body(t, m)
	}
}

func keyed(name, key string, length int) sink.Upload {
	up := upload(name, length)
	up.Header = http.Header{"Idempotency-Key": {key}}
	return up
}

func TestIdempotencyKey(t *testing.T) {
	addr := inProcess(t, nil)
	// A short window, to see what comes after it.
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&wait=400ms&ack-wait=400ms&duplicates=1s", Options{})
	v := look(t, addr)
	small, large := random(100), random(1<<20)
	put := func(name, key string, body []byte) {
		t.Helper()
		r, err := s.Store(t.Context(), keyed(name, key, len(body)), bytes.NewReader(body))
		if err != nil || r.SHA256 != sumOf(body) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	expect := func(messages, objects int) {
		t.Helper()
		if got := len(v.messages(t)); got != messages {
			t.Fatalf("%d messages, want %d", got, messages)
		}
		if whole, begun := v.objects(t); whole != objects || begun != objects {
			t.Fatalf("%d objects and chunks of %d, want %d", whole, begun, objects)
		}
	}
	put("small", "k1", small)
	put("small", "k1", small)
	expect(1, 0)
	put("large", "k1", large)
	put("large", "k1", large)
	expect(2, 1)
	put("other", "k1", small) // a key is of one name
	expect(3, 1)
	put("small", "k1", random(100)) // and of one body: neither is lost
	expect(4, 1)
	store(t, s, "small", small) // without a key
	store(t, s, "small", small)
	expect(6, 1)
	time.Sleep(1500 * time.Millisecond) // the window ends
	put("large", "k1", large)
	expect(6, 1)
	if !bytes.Equal(fetch(t, s, "large"), large) {
		t.Fatal("read back others")
	}
}

func TestMissingStream(t *testing.T) {
	addr := inProcess(t, nil)
	var missing *MissingError
	_, err := Open(t.Context(), "nats://"+addr+"/UPLOADS", Options{})
	if !errors.As(err, &missing) || missing.Name != "UPLOADS" || !strings.Contains(err.Error(), "nats stream add UPLOADS --subjects 'UPLOADS.*'") {
		t.Fatalf("without the stream: %v", err)
	}
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&bucket=BODIES", Options{})
	if _, err = Open(t.Context(), "nats://"+addr+"/UPLOADS", Options{}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "nats object add UPLOADS") {
		t.Fatalf("without the bucket: %v", err)
	}
	if _, err = Open(t.Context(), "nats://"+addr+"/UPLOADS?subject=other", Options{}); err == nil || !strings.Contains(err.Error(), "nats stream edit UPLOADS --subjects 'other.*'") {
		t.Fatalf("with a subject that it does not take: %v", err)
	}
	open(t, "nats://"+addr+"/UPLOADS?bucket=BODIES&wait=100s&ack-wait=20s", Options{}) // the window is just long enough
	// The stream goes while the sink runs, and comes again.
	if err := s.js.DeleteStream(t.Context(), "UPLOADS"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("check does not make the stream again: %v", err)
	}
	store(t, s, "report", []byte("x"))
}

// TestStreamGoes has no create=1: the sink says what is missing, and recovers.
func TestStreamGoes(t *testing.T) {
	addr := inProcess(t, nil)
	maker := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	s := open(t, "nats://"+addr+"/UPLOADS?wait=300ms", Options{})
	if err := maker.js.DeleteStream(t.Context(), "UPLOADS"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := s.Store(t.Context(), upload("report", 1), strings.NewReader("x"))
		var unavailable *sink.UnavailableError
		if !errors.As(err, &unavailable) {
			t.Fatalf("without the stream: %v", err)
		}
	}
	var missing *MissingError
	if err := s.Check(t.Context()); !errors.As(err, &missing) {
		t.Fatalf("check without the stream: %v", err)
	}
	if err := maker.Check(t.Context()); err != nil { // makes it
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	store(t, s, "report", []byte("x"))
}

func TestFull(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&max-bytes=400KiB", Options{})
	v := look(t, addr)
	fill := func(size int) (err error) {
		for i := 0; i < 100 && err == nil; i++ {
			_, err = s.Store(t.Context(), upload("report", size), bytes.NewReader(random(size)))
		}
		return err
	}
	for _, size := range []int{5000, 1000} {
		if err := fill(size); !sink.IsFull(err) {
			t.Fatalf("the stream is full: %v, want an error that IsFull", err)
		}
	}
	if err := s.Check(t.Context()); !sink.IsFull(err) {
		t.Fatalf("check: %v, want an error that IsFull", err)
	}
	if err := v.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatalf("check with room again: %v", err)
	}
	if err := fill(300_000); !sink.IsFull(err) { // into the bucket
		t.Fatalf("the bucket is full: %v, want an error that IsFull", err)
	}
	store(t, s, "report", []byte("fits"))
	for _, m := range v.messages(t) {
		v.body(t, m) // all that was acknowledged is whole
	}
	whole, begun := v.objects(t)
	if whole != begun {
		t.Fatalf("%d objects, chunks of %d: what did not fit was left", whole, begun)
	}
}

func TestServerLimits(t *testing.T) {
	addr := inProcess(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 })
	s := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		_, err = s.Store(t.Context(), upload("report", 100_000), bytes.NewReader(random(100_000)))
	}
	if !sink.IsFull(err) {
		t.Fatalf("JetStream is full: %v, want an error that IsFull", err)
	}
}

func TestMaxMessageSize(t *testing.T) {
	addr := inProcess(t, nil)
	maker := open(t, "nats://"+addr+"/UPLOADS?create=1", Options{})
	stream, err := maker.js.Stream(t.Context(), "UPLOADS")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = 20_000
	if _, err := maker.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	s := open(t, "nats://"+addr+"/UPLOADS", Options{})
	store(t, s, "report", random(19_999))
	// One that has seen the stream before it changed says what to do.
	if _, err := maker.Store(t.Context(), upload("report", 50_000), bytes.NewReader(random(50_000))); !errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum) || !strings.Contains(err.Error(), "inline") {
		t.Fatalf("%v", err)
	}
}
