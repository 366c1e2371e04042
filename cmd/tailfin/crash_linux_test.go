package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// crashRounds is how often a daemon is killed: want, or what the environment says.
func crashRounds(t *testing.T, want int) int {
	t.Helper()
	text := os.Getenv("TAILFIN_CRASH_ITERATIONS")
	if text == "" {
		return want
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TAILFIN_CRASH_ITERATIONS=%q: give a number of rounds", text)
	}
	return n
}

// crashSizes are what is uploaded, in bytes: all in one packet, some packets, and
// long enough to be cut nearly always.
var crashSizes = []int{1 << 10, 9000, 64 << 10, 300_000, 2 << 20}

// crashBody is a body that its name determines.
func crashBody(name string, size int) []byte {
	seed := sha256.Sum256([]byte(name))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// An uploader uploads under ever new names until its context ends.
type uploader struct {
	url string

	mu   sync.Mutex
	sent map[string]int    // size of each body that was begun, by name
	acks map[string]string // SHA-256 of each that was answered 201
}

func (u *uploader) answered() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.acks)
}

// crashTransport gives up soon: its server may be dead.
func crashTransport() *tailfin.Transport {
	return &tailfin.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		DialTimeout:     5 * time.Second,
		Logger:          slog.New(slog.DiscardHandler),
	}
}

// run uploads one after the other on one connection, or each on its own with
// FIN and CONNECTION_CLOSE back to back, for which no answer can be had.
func (u *uploader) run(ctx context.Context, prefix string, leave bool) {
	tr := crashTransport()
	defer func() { _ = tr.Close() }()
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("%s-%d", prefix, i)
		size := crashSizes[rand.N(len(crashSizes))]
		body := crashBody(name, size)
		u.mu.Lock()
		u.sent[name] = size
		u.mu.Unlock()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.url+"/"+name, bytes.NewReader(body))
		if err != nil {
			return
		}
		if leave {
			_ = tr.SendAndClose(req) // "sent" is all that it can say
			continue
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			continue
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		// The status is the promise, though the receipt may have been cut off.
		if resp.StatusCode == http.StatusCreated {
			sum := sha256.Sum256(body)
			u.mu.Lock()
			u.acks[name] = hex.EncodeToString(sum[:])
			u.mu.Unlock()
			var receipt struct{ SHA256 string }
			if json.Unmarshal(answer, &receipt) == nil && receipt.SHA256 != hex.EncodeToString(sum[:]) {
				u.mu.Lock()
				u.acks[name] = "the receipt has another hash: " + receipt.SHA256
				u.mu.Unlock()
			}
		}
	}
}

// crash lets uploads run against d and kills it at a random instant.
func crash(t *testing.T, d *daemon, round int, all *uploader) {
	t.Helper()
	all.url = "https://" + d.addr
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() { all.run(ctx, fmt.Sprintf("r%d-c%d", round, c), c == 5) })
	}
	// Some answers first, else a slow machine is killed in its handshakes; then any
	// instant of what follows.
	before, want := all.answered(), 1+rand.N(40)
	for start := time.Now(); all.answered() < before+want && time.Since(start) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(rand.N(30 * time.Millisecond))
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
	stop()
	wg.Wait()
}

// TestKillNine kills the daemon at random instants under upload load. After each
// restart every upload that was answered 201 is whole on disk, and whatever has a
// final name is whole, answered or not.
//
// A killed process loses nothing that it gave the kernel, so that this says nothing
// of power failures: for those the order of the syncs counts, which TestSyncOrder
// of package sink looks at.
func TestKillNine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "received")
	all := &uploader{sent: map[string]int{}, acks: map[string]string{}}
	rounds := crashRounds(t, 6)
	checked := map[string]bool{} // names whose file was found whole; later rounds leave them alone
	left := 0
	for round := range rounds + 1 {
		d := serve(t, "--sink", "dir:"+dir, "--log-level", "warn")
		for name, sum := range all.acks {
			if checked[name] {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, name))
			if h := sha256.Sum256(b); err != nil || hex.EncodeToString(h[:]) != sum {
				t.Fatalf("after kill %d: %s was answered 201: %d of %d bytes on disk, want %s, %v", round, name, len(b), all.sent[name], sum, err)
			}
			checked[name] = true
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, ".") || checked[name] {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(b, crashBody(name, all.sent[name])) {
				t.Fatalf("after kill %d: %s has a final name and is not whole: %d of %d bytes, %v", round, name, len(b), all.sent[name], err)
			}
			checked[name] = true
		}
		if round == rounds {
			d.stop(t)
			break
		}
		crash(t, d, round, all)
		unfinished, err := os.ReadDir(filepath.Join(dir, ".incoming"))
		if err != nil {
			t.Fatal(err)
		}
		left = len(unfinished) // of all kills so far: a start removes them when they are old
	}
	if len(all.acks) == 0 {
		t.Fatal("no upload was answered: nothing was tested")
	}
	t.Logf("%d kills: %d uploads begun, %d answered 201 and whole, %d whole though not answered, %d cut and without a name",
		rounds, len(all.sent), len(all.acks), len(checked)-len(all.acks), left)
}

// TestKillNineNDJSON is the same for a file of records: each line is whole after a
// restart, and each upload that was answered has one.
func TestKillNineNDJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	all := &uploader{sent: map[string]int{}, acks: map[string]string{}}
	rounds := crashRounds(t, 3)
	for round := range rounds {
		crash(t, serve(t, "--sink", "ndjson:"+file, "--log-level", "warn"), round, all)
		serve(t, "--sink", "ndjson:"+file).stop(t) // mends the last line, should it be torn
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		var rec struct {
			Name, SHA256 string
			Size         int
			Body         *string
			BodyBase64   []byte `json:"body_base64"`
			BodyPath     string `json:"body_path"`
		}
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatalf("line %d is torn: %v: %.100q", n, err, lines.Text())
		}
		body := rec.BodyBase64
		switch {
		case rec.BodyPath != "":
			if body, err = os.ReadFile(rec.BodyPath); err != nil {
				t.Fatalf("line %d: %v", n, err)
			}
		case rec.Body != nil:
			body = []byte(*rec.Body)
		}
		if !bytes.Equal(body, crashBody(rec.Name, all.sent[rec.Name])) {
			t.Fatalf("line %d: %s has another body: %d of %d bytes", n, rec.Name, len(body), all.sent[rec.Name])
		}
		seen[rec.Name] = true
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for name := range all.acks {
		if !seen[name] {
			t.Fatalf("%s was answered 201 and has no record", name)
		}
	}
	if len(all.acks) == 0 {
		t.Fatal("no upload was answered: nothing was tested")
	}
	t.Logf("%d kills: %d uploads begun, %d answered 201, %d records", rounds, len(all.sent), len(all.acks), len(seen))
}

// TestKillNineResumable kills the daemon again and again while one upload goes on
// from where it was. The offset never goes back, and in the end all of it is stored.
func TestKillNineResumable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "received")
	body := crashBody("resumed", 24<<20)
	rounds := min(crashRounds(t, 3), 20) // it comes to its end all the same
	location, offset, resumed := "", 0, 0
	for round := range rounds + 1 {
		d := serve(t, "--sink", "dir:"+dir, "--log-level", "warn")
		tr := crashTransport()
		ask := func(method, path string, from int, header map[string]string) (*http.Response, error) {
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
				location = h.Get("Location")
				return nil
			}})
			var content io.Reader
			if from >= 0 {
				content = bytes.NewReader(body[from:])
			}
			req, err := http.NewRequestWithContext(ctx, method, "https://"+d.addr+path, content)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range header {
				req.Header.Set(k, v)
			}
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			return resp, err
		}
		type result struct {
			resp *http.Response
			err  error
		}
		ended := make(chan result, 1)
		if location == "" {
			go func() {
				resp, err := ask(http.MethodPut, "/resumed", 0, map[string]string{"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8"})
				ended <- result{resp, err}
			}()
		} else {
			resp, err := ask(http.MethodHead, location, -1, nil)
			if err != nil || resp.StatusCode != http.StatusNoContent {
				t.Fatalf("after kill %d: HEAD: %v, %v", round, resp, err)
			}
			now, err := strconv.Atoi(resp.Header.Get("Upload-Offset"))
			if err != nil || now < offset || now > len(body) {
				t.Fatalf("after kill %d: offset %d, and it was %d before: %v", round, now, offset, err)
			}
			if now > offset {
				resumed++
			}
			offset = now
			go func() {
				resp, err := ask(http.MethodPatch, location, now, map[string]string{
					"Upload-Complete": "?1", "Upload-Offset": strconv.Itoa(now), "Content-Type": "application/partial-upload",
				})
				ended <- result{resp, err}
			}()
		}
		if round < rounds {
			select {
			case r := <-ended: // it was too quick for this kill
				if r.err != nil || r.resp.StatusCode != http.StatusCreated {
					t.Fatalf("after kill %d: %v, %v", round, r.resp, r.err)
				}
				ended <- r
			case <-time.After(rand.N(250 * time.Millisecond)):
			}
			_ = d.cmd.Process.Kill()
			<-d.done
			_ = tr.Close()
			<-ended
			continue
		}
		if r := <-ended; r.err != nil || r.resp.StatusCode != http.StatusCreated || r.resp.Header.Get("Upload-Complete") != "?1" {
			t.Fatalf("the last part: %v, %v", r.resp, r.err)
		}
		_ = tr.Close()
		d.stop(t)
	}
	b, err := os.ReadFile(filepath.Join(dir, "resumed"))
	if err != nil || !bytes.Equal(b, body) {
		t.Fatalf("%d of %d bytes are stored, %v", len(b), len(body), err)
	}
	t.Logf("%d kills, %d of them with progress, %d bytes before the last part", rounds, resumed, offset)
}
