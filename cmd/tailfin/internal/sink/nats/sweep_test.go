package natssink

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// hurried makes every object old enough for a sweep after a moment.
func hurried(t *testing.T, url string) *Sink {
	t.Helper()
	s := open(t, url+"&sweep=0", Options{})
	s.cfg.Sweep = time.Millisecond
	return s
}

func sweep(t *testing.T, s *Sink) int {
	t.Helper()
	time.Sleep(20 * time.Millisecond) // the least age
	n, err := s.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweep keeps what a message refers to, of every name, and removes the
// rest.
func TestSweep(t *testing.T) {
	addr := inProcess(t, nil)
	s := hurried(t, "nats://"+addr+"/UPLOADS?create=1&inline=1000")
	names := []string{"report", "report", "a.b", " spaces ", "ünï ✓ code", "ünï", "100%"}
	bodies := map[string][]byte{}
	for _, name := range names {
		bodies[name] = random(200_000)
		store(t, s, name, bodies[name])
	}
	if n := sweep(t, s); n != 0 {
		t.Fatalf("%d objects swept of which each has a message", n)
	}
	for name, body := range bodies {
		if !bytes.Equal(fetch(t, s, name), body) {
			t.Errorf("%q: read back others", name)
		}
	}
	v := look(t, addr)
	first := v.messages(t)[0] // of two under its name
	if err := v.stream.DeleteMsg(t.Context(), first.Sequence); err != nil {
		t.Fatal(err)
	}
	if n := sweep(t, s); n != 1 {
		t.Fatalf("%d objects swept for one message removed", n)
	}
	for name, body := range bodies {
		if !bytes.Equal(fetch(t, s, name), body) {
			t.Errorf("%q: read back others", name)
		}
	}
	if whole, begun := v.objects(t); whole != len(names)-1 || begun != len(names)-1 {
		t.Errorf("%d objects, chunks of %d", whole, begun)
	}
}

// TestSweepLeavesOthers has objects of another program and of another stream in
// the bucket, and young ones.
func TestSweepLeavesOthers(t *testing.T) {
	addr := inProcess(t, nil)
	s := hurried(t, "nats://"+addr+"/UPLOADS?create=1")
	other := open(t, "nats://"+addr+"/OTHER?create=1&bucket=UPLOADS", Options{})
	v := look(t, addr)
	if _, err := v.bucket.PutBytes(t.Context(), "theirs", random(300_000)); err != nil {
		t.Fatal(err)
	}
	store(t, other, "report", random(300_000))
	if n := sweep(t, s); n != 0 {
		t.Fatalf("%d objects of others swept", n)
	}
	store(t, s, "report", random(300_000))
	if err := v.stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.cfg.Sweep = time.Hour
	if n := sweep(t, s); n != 0 {
		t.Fatalf("%d young objects swept", n)
	}
	s.cfg.Sweep = time.Millisecond
	if n := sweep(t, s); n != 1 {
		t.Fatalf("%d objects swept, want the one whose message is gone", n)
	}
}

// TestSweepAfterNewStream has a stream whose numbers began again, at or above
// which an object does not find its message.
func TestSweepAfterNewStream(t *testing.T) {
	addr := inProcess(t, nil)
	s := hurried(t, "nats://"+addr+"/UPLOADS?create=1")
	for range 20 {
		store(t, s, "small", []byte("x"))
	}
	r, w := io.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := s.Store(t.Context(), upload("report", 1<<20), r)
		result <- err
	}()
	if _, err := w.Write(random(600_000)); err != nil { // the upload has seen the old stream
		t.Fatal(err)
	}
	if err := s.js.DeleteStream(t.Context(), "UPLOADS"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(random(1<<20 - 600_000))
	_ = w.Close()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if n := sweep(t, s); n != 0 {
		t.Fatalf("%d objects swept of which each has a message", n)
	}
	if len(fetch(t, s, "report")) != 1<<20 {
		t.Fatal("the object is gone")
	}
}

// TestSweepOfLiveUpload sweeps what is being uploaded: the upload fails rather
// than be acknowledged without its first chunks.
func TestSweepOfLiveUpload(t *testing.T) {
	addr := inProcess(t, nil)
	s := hurried(t, "nats://"+addr+"/UPLOADS?create=1")
	r, w := io.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := s.Store(t.Context(), upload("report", 1<<20), r)
		result <- err
	}()
	if _, err := w.Write(random(600_000)); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); sweep(t, s) == 0; {
		if time.Now().After(limit) {
			t.Fatal("no chunk is stored")
		}
	}
	_, _ = w.Write(random(1<<20 - 600_000))
	_ = w.Close()
	if err := <-result; err == nil {
		t.Fatal("an upload without its first chunks was acknowledged")
	}
	v := look(t, addr)
	if len(v.messages(t)) != 0 {
		t.Fatal("a message refers to what is not whole")
	}
}

// TestWorkQueue has a stream that gives each message to one consumer and then
// drops it.
func TestWorkQueue(t *testing.T) {
	addr := inProcess(t, nil)
	maker := open(t, "nats://"+addr+"/OTHER?create=1&bucket=UPLOADS", Options{})
	if _, err := maker.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "UPLOADS", Subjects: []string{"UPLOADS.*"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	s := hurried(t, "nats://"+addr+"/UPLOADS?create=0")
	body := random(500_000)
	store(t, s, "report", body)
	v := look(t, addr)
	consumer, err := v.stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	if n := sweep(t, s); n != 0 {
		t.Fatalf("%d objects swept before they were taken", n)
	}
	msg, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.bucket.GetBytes(t.Context(), msg.Headers().Get(HeaderObject))
	if err != nil || !bytes.Equal(b, body) {
		t.Fatalf("read %d bytes, %v", len(b), err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := sweep(t, s); n != 1 {
		t.Fatalf("%d objects swept after the message was taken", n)
	}
}
