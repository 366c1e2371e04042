package natssink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// crashes is how often a crash test kills. TAILFIN_CRASH_ITERATIONS sets it, 200
// for a long run.
func crashes(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TAILFIN_CRASH_ITERATIONS")
	if text == "" {
		return 8
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TAILFIN_CRASH_ITERATIONS=%s is no number", text)
	}
	return n
}

// killsPerCheck is how many kills there are before what was stored is checked
// and removed, so that a long run does not fill the disk.
const killsPerCheck = 10

// TestNATSKilled kills nats-server at random instants under upload load and
// starts it again. Each client sends its upload, with one Idempotency-Key, until
// it is acknowledged, and sometimes once more, as after an answer that was lost.
// Then every upload is in the stream exactly once and whole.
func TestNATSKilled(t *testing.T) {
	start := time.Now()
	p := newProcess(t)
	quiet := slog.New(slog.DiscardHandler)
	url := "nats://" + p.addr + "/UPLOADS?create=1&headers=X-Upload&sweep=0&duplicates=20m"
	// One sink sits a restart out, the other gives up, so that its clients come
	// again with 503.
	patient := open(t, url, Options{Logger: quiet})
	hasty := open(t, url+"&wait=30ms", Options{Logger: quiet})
	c := &clients{sinks: []*Sink{patient, hasty}}
	var total stored
	for left := crashes(t); left > 0; left -= killsPerCheck {
		stop := c.start(t)
		for range min(left, killsPerCheck) {
			if rand.IntN(4) > 0 { // else in the middle of connecting, maybe
				c.progress(t)
			}
			time.Sleep(rand.N(300 * time.Millisecond))
			p.kill()
			time.Sleep(rand.N(200 * time.Millisecond))
			p.start(t)
		}
		total.add(c.check(t, p.addr, stop()))
	}
	duplicates := 0.0
	for _, s := range c.sinks {
		duplicates += testutil.ToFloat64(s.m.publishes.WithLabelValues(resultDuplicate))
	}
	resent := testutil.ToFloat64(patient.m.resent) + testutil.ToFloat64(hasty.m.resent)
	t.Logf("%d kills in %v: %d uploads acknowledged (%d as objects), %d messages; %d attempts answered 503, %d sent once more after their acknowledgement; %.0f messages and chunks sent again within an upload; %.0f uploads found to be stored already",
		crashes(t), time.Since(start).Round(time.Second), total.uploads, total.objects, total.messages, c.refused.Load(), c.repeated.Load(), resent, duplicates)
	if total.uploads == 0 || total.objects == 0 {
		t.Error("there was no load")
	}
	if c.refused.Load() == 0 || resent == 0 {
		t.Error("no kill met an upload")
	}
}

type stored struct {
	uploads, objects, messages int
}

func (s *stored) add(o stored) {
	s.uploads += o.uploads
	s.objects += o.objects
	s.messages += o.messages
}

// clients upload at the same time, each to one of the sinks.
type clients struct {
	sinks             []*Sink
	next              atomic.Int64
	refused, repeated atomic.Int64
	acknowledged      atomic.Int64
}

// progress waits until another upload was acknowledged.
func (c *clients) progress(t *testing.T) {
	before := c.acknowledged.Load()
	for limit := time.Now().Add(10 * time.Minute); c.acknowledged.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Error("no upload is acknowledged") // not Fatal: the clients are at work
			return
		}
	}
}

type sent struct {
	name, sum string
}

// start lets them upload until stop is called, which waits for the last
// acknowledgements and gives all uploads by their number.
func (c *clients) start(t *testing.T) (stop func() map[string]sent) {
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu   sync.Mutex
		all  = map[string]sent{}
		done sync.WaitGroup
	)
	for i := range 8 {
		done.Go(func() {
			for ctx.Err() == nil {
				id := fmt.Sprint(c.next.Add(1))
				size := rand.IntN(20_000)
				if rand.IntN(4) == 0 {
					size = defaultInline + rand.IntN(2<<20)
				}
				name, body := fmt.Sprintf("name-%d", rand.IntN(20)), random(size)
				if !c.upload(t, c.sinks[i%len(c.sinks)], id, name, body) {
					return
				}
				mu.Lock()
				all[id] = sent{name, sumOf(body)}
				mu.Unlock()
				time.Sleep(rand.N(10 * time.Millisecond))
			}
		})
	}
	return func() map[string]sent {
		cancel()
		done.Wait()
		return all
	}
}

// upload is a client that insists.
func (c *clients) upload(t *testing.T, s *Sink, id, name string, body []byte) bool {
	const patience = 10 * time.Minute // less than the duplicate window
	acknowledged := 1
	if rand.IntN(10) == 0 {
		acknowledged = 2
		c.repeated.Add(1)
	}
	for limit := time.Now().Add(patience); acknowledged > 0; {
		up := keyed(name, "key-"+id, len(body))
		up.Header.Set("X-Upload", id)
		_, err := s.Store(context.Background(), up, bytes.NewReader(body))
		var unavailable *sink.UnavailableError
		switch {
		case err == nil:
			acknowledged--
			c.acknowledged.Add(1)
		case !errors.As(err, &unavailable):
			t.Errorf("upload %s: %v", id, err)
			return false
		case time.Now().After(limit):
			t.Errorf("upload %s is not acknowledged in %v: %v", id, patience, err)
			return false
		default:
			c.refused.Add(1)
			time.Sleep(rand.N(50 * time.Millisecond))
		}
	}
	return true
}

// check compares the stream with the uploads, and empties it.
func (c *clients) check(t *testing.T, addr string, all map[string]sent) stored {
	t.Helper()
	v := look(t, addr)
	got := stored{uploads: len(all)}
	seen := map[string]int{}
	for _, m := range v.messages(t) {
		got.messages++
		id := m.Header.Get(HeaderRequest + "X-Upload")
		seen[id]++
		up, ok := all[id]
		if !ok || m.Subject != "UPLOADS."+up.name || m.Header.Get(HeaderSHA256) != up.sum || sumOf(v.body(t, m)) != up.sum {
			t.Errorf("message %d is not what upload %q sent: %v", m.Sequence, id, m.Header)
		}
		if m.Header.Get(HeaderBody) == BodyObject {
			got.objects++
		}
	}
	for id := range all {
		if seen[id] != 1 {
			t.Errorf("acknowledged upload %s is there %d times", id, seen[id])
		}
	}
	for _, name := range []string{"UPLOADS", "OBJ_UPLOADS"} {
		stream, err := v.js.Stream(t.Context(), name)
		if err == nil {
			err = stream.Purge(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// TestUploaderKilled kills the process that uploads at random instants, thus
// between object and message too. No message refers to an object that is not
// whole, what was acknowledged is there, and a sweep removes the rest.
func TestUploaderKilled(t *testing.T) {
	addr := inProcess(t, func(o *server.Options) { o.SyncInterval = time.Minute })
	url := "nats://" + addr + "/UPLOADS?create=1&headers=X-Upload&sweep=0&wait=1s"
	_ = open(t, url, Options{}).Close() // makes the stream
	v := look(t, addr)
	start, acknowledged := time.Now(), map[string]bool{}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range crashes(t) {
		cmd := exec.CommandContext(t.Context(), exe, url, fmt.Sprint(round))
		cmd.Env = append(os.Environ(), asUploader+"=1")
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatalf("the uploader stores nothing: %v", lines.Err())
		}
		acknowledged[lines.Text()] = true
		timer := time.AfterFunc(rand.N(100*time.Millisecond), func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		timer.Stop()
		_ = cmd.Wait()
	}
	found, referred := map[string]bool{}, 0
	for _, m := range v.messages(t) {
		if sumOf(v.body(t, m)) != m.Header.Get(HeaderSHA256) {
			t.Errorf("message %d: its body is another", m.Sequence)
		}
		found[m.Header.Get(HeaderRequest+"X-Upload")] = true
		referred++
	}
	for id := range acknowledged {
		if !found[id] {
			t.Errorf("acknowledged upload %s has no message", id)
		}
	}
	whole, begun := v.objects(t)
	s := open(t, url, Options{})
	s.cfg.Sweep = time.Millisecond // less than the option allows; no upload is at work
	// The server removes chunks behind its answer, so look more than once.
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The last uploader's last message may have come only now: it was on its way when
		// the process was killed.
		referred = len(v.messages(t))
		w, b := v.objects(t)
		if w == referred && b == referred {
			break
		}
		if w < referred || b < referred || time.Now().After(limit) {
			t.Fatalf("after the sweep: %d objects and chunks of %d, for %d messages", w, b, referred)
		}
	}
	for _, m := range v.messages(t) {
		v.body(t, m)
	}
	t.Logf("%d kills in %v: %d uploads acknowledged, %d messages; %d objects without a message and chunks of %d more swept",
		crashes(t), time.Since(start).Round(time.Second), len(acknowledged), referred, whole-referred, begun-whole)
	if begun == referred {
		t.Error("no kill left anything: the sweep was not put to the test")
	}
}

// uploader stores objects until it is killed, and prints a line for each that
// was acknowledged.
func uploader(args []string) int {
	s, err := Open(context.Background(), args[0], Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.Close()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				id := fmt.Sprintf("%s-%d", args[1], next.Add(1))
				body := random(defaultInline + 1 + rand.IntN(500_000))
				up := upload("name-"+fmt.Sprint(rand.IntN(20)), len(body))
				up.Header = map[string][]string{"X-Upload": {id}}
				if _, err := s.Store(context.Background(), up, bytes.NewReader(body)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Println(id)
			}
		})
	}
	all.Wait()
	return 1
}
