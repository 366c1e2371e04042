package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// TestClientsLeave has clients that close behind the FIN, at a daemon that counts what it saved.
func TestClientsLeave(t *testing.T) {
	t.Parallel()
	d := serveObserved(t)
	file, sum := writeFile(t, 9000)
	const uploads = 100
	r := runTailfin(t, "put", file, "https://"+d.addr+"/left", "--insecure", "--close-after-fin", "--count", fmt.Sprint(uploads))
	if r.code != exitOK {
		t.Fatalf("put: %+v", r)
	}
	d.waitMetric(t, uploads, "tailfin_sink_stores_total", "result=stored")
	if saved := d.metric(t, "tailfin_drain_saved_bytes_total"); saved == 0 {
		t.Error("nothing was saved at the closes")
	} else {
		t.Logf("%v bytes of %v streams were saved at %v closes", saved, d.metric(t, "tailfin_drain_saved_streams_total"), d.metric(t, "tailfin_drain_closes_total"))
	}
	if got := d.lines("msg=request", "level=INFO", "status=201", "stored=9000"); got != uploads {
		t.Errorf("%d access lines of %d uploads", got, uploads)
	}
	d.stop(t)
	for i := 1; i <= uploads; i++ {
		name := filepath.Join(d.dir, fmt.Sprintf("left-%d", i))
		if got, err := sumOfFile(name); err != nil || got != sum {
			t.Errorf("upload %d: %s, %v", i, got, err)
		}
	}
}

// TestEveryKey runs a daemon by a file that has keys of every group.
func TestEveryKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored, conf := filepath.Join(dir, "stored"), filepath.Join(dir, "tailfin.yaml")
	text := `# a comment
listen: 127.0.0.1:0
backend: mmsg
no-gro: true
moderation: 0s
drain: "on"
shards: 2
cacert-out: ` + filepath.Join(dir, "ca.pem") + `
sink: dir:` + stored + `
max-body: 1KiB
record-header: [content-type, x-id]
partial-keep: 1h
partial-max: 10
partial-max-bytes: 1MiB
grace: 3s
readiness-delay: 0s
admin: 127.0.0.1:0
log-format: json
log-level: debug
access-log: "on"
log-repeat: 5
qlog-dir: ` + filepath.Join(dir, "qlogs") + `
qlog-max: 1
key-log: ` + filepath.Join(dir, "keys") + `
max-conns: 100
max-conns-per-addr: 50
max-streams: 7
max-header: 4KiB
handshake-rate: 0
handshake-max: 1000
addr-handshakes: 1000
addr-requests: 1000
header-timeout: 20s
body-timeout: 20s
request-timeout: 50s
idle-timeout: 40s
`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := runTailfin(t, "config", "check", conf); r.code != exitOK {
		t.Fatalf("config check: %+v", r)
	}
	d := observe(t, serveByFile(t, conf))
	tr, url := newTransport(t), "https://"+d.addr
	wantStatus(t, tr, http.StatusCreated, "PUT", url+"/x", strings.NewReader("x"))
	wantStatus(t, tr, http.StatusRequestEntityTooLarge, "PUT", url+"/y", strings.NewReader(strings.Repeat("y", 1025)))
	for _, name := range []string{"stored/x", "ca.pem", "keys", "qlogs"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if got := d.metric(t, "tailfin_limits_retries_total"); got == 0 {
		t.Error("handshake-rate has no effect")
	}
	for _, part := range []string{"backend=mmsg", "gro=off", "shards=2"} {
		if !strings.Contains(d.log.String(), part) {
			t.Errorf("ready without %s:\n%s", part, d.log)
		}
	}
	d.stop(t)
	requests := 0
	for line := range strings.Lines(d.log.String()) {
		if strings.HasPrefix(line, "ready ") {
			continue
		}
		var rec struct{ Level, Msg, Time, Path string }
		if err := json.Unmarshal([]byte(line), &rec); err != nil || rec.Level == "" || rec.Msg == "" {
			t.Errorf("no line of JSON: %v: %s", err, line)
		}
		if _, err := time.Parse(time.RFC3339Nano, rec.Time); err != nil {
			t.Error(err)
		}
		if rec.Msg == "request" {
			requests++
		}
	}
	if requests != 2 {
		t.Errorf("%d access lines of 2 requests:\n%s", requests, d.log)
	}
}

// serveByFile starts a daemon that has all from a file.
func serveByFile(t *testing.T, conf string) *daemon {
	t.Helper()
	return serveAs(t, func(cmd *exec.Cmd) { cmd.Args = []string{cmd.Args[0], "serve", "--config", conf} })
}

// TestBadFile has files that no daemon starts with, and one that runs keeps going by
// what it has.
func TestBadFile(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "tailfin.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("max-body: 1KiB\n")
	d := serve(t, "--config", conf)
	for i, tc := range []struct {
		text string
		want []string
	}{
		{"max-body: 1KiB\nmax-bodi: 77\n", []string{conf + ":2: max-bodi: 77", "no such key", "is it max-body?"}},
		{"grace: 1s\n\nmax-conns: many\n", []string{conf + ":3: max-conns: many", "give N", "Connections open at once"}},
		{"max-body: [1, 2]\n", []string{conf + ":1: max-body: 1,2", "single value"}},
		{"max-body: 1KiB\nmax-body: 2KiB\n", []string{conf, "max-body", "line 1"}},
		{"max-body\n", []string{conf + ":1", "config example"}},
		{"max-body: \"1KiB\n", []string{conf, "config example"}},
		{"body-timeout: -1s\n", []string{conf + ":1: body-timeout: -1s", "less than 0", "10s"}},
		{"max-body: 1KiB\n---\nmax-conns: 5\n", []string{conf + ":3", "second document"}},
		{"nats: x\n", []string{conf + ":1: nats: x", "no such key"}},
	} {
		write(tc.text)
		args := []string{"serve", "--listen", "127.0.0.1:0", "--config", conf}
		for _, args := range [][]string{args, {"config", "check", conf}} {
			r := runTailfin(t, args...)
			if r.code != exitUsage {
				t.Errorf("%v with %q: exit %d, want %d", args, tc.text, r.code, exitUsage)
			}
			for _, part := range tc.want {
				if !strings.Contains(r.stderr, part) {
					t.Errorf("%v with %q does not say %q:\n%s", args, tc.text, part, r.stderr)
				}
			}
		}
		d.signal(t, syscall.SIGHUP)
		eventually(t, fmt.Sprintf("%q is refused", tc.text), func() bool { return d.lines("level=ERROR", conf) > i })
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	d.signal(t, syscall.SIGHUP)
	d.waitLog(t, "no such file")
	tr, url := newTransport(t), "https://"+d.addr
	wantStatus(t, tr, http.StatusCreated, "PUT", url+"/x", strings.NewReader(strings.Repeat("x", 1024)))
	wantStatus(t, tr, http.StatusRequestEntityTooLarge, "PUT", url+"/x", strings.NewReader(strings.Repeat("x", 1025)))
	d.stop(t)
}

// TestHostileLookalikes floods a daemon with what is no QUIC, or looks like it only.
func TestHostileLookalikes(t *testing.T) {
	t.Parallel()
	d := serveObserved(t, "--log-level", "debug")
	flood, err := net.Dial("udp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	noise := make([]byte, 1500)
	_, _ = rand.Read(noise)
	version := func(first byte, v uint32, size int) []byte {
		p := append([]byte{first, byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v), 8}, noise[:size]...)
		return p
	}
	datagrams := [][]byte{
		{}, {0}, {0x40}, {0xc0}, noise[:20], noise[:1200], noise,
		append([]byte{0x40}, noise[:50]...),          // a short header
		version(0xc0, 0, 30),                         // version negotiation
		version(0xc0, 1, 3),                          // an Initial that ends in its head
		version(0xc0, 1, 1200),                       // one that cannot be decrypted
		version(0xd0, 1, 1200),                       // 0-RTT
		version(0xe0, 1, 1200),                       // Handshake
		version(0xf0, 1, 100),                        // Retry
		version(0xc0, 0x0a0a0a0a, 1200),              // a version to be told others for
		version(0xc0, 0xff00001d, 1200),              // one of a draft
		append(noise[:0:0], make([]byte, 60_000)...), // as long as a datagram can be, nearly
	}
	rounds, stored := hostile.Size(300, 10_000), 0
	for i := range rounds {
		for _, p := range datagrams {
			_, _ = flood.Write(p) // a full buffer loses some: what matters is what is left
		}
		if i%50 == 0 {
			wantStatus(t, newTransport(t), http.StatusCreated, "PUT", fmt.Sprintf("https://%s/x%d", d.addr, i), strings.NewReader("x"))
			stored++
		}
	}
	eventually(t, "stray packets are counted", func() bool {
		return d.metric(t, "tailfin_server_stray_packets_total") > float64(rounds)
	})
	wantStatus(t, newTransport(t), http.StatusCreated, "PUT", "https://"+d.addr+"/last", strings.NewReader("x"))
	stored++
	stray := d.metric(t, "tailfin_server_stray_packets_total")
	lines := d.lines("")
	if most := 250 + 10*stored; lines > most {
		t.Errorf("%d lines of log for %d datagrams", lines, rounds*len(datagrams))
	}
	d.stop(t) // the last line is written after its answer
	hostile.Result{
		Kind: "peer", Fault: "datagrams that look like QUIC, of each kind", Tries: rounds * len(datagrams),
		Lost: stored - d.lines("msg=request", "status=201"), Leaked: d.unfinished(t),
		Bound: fmt.Sprintf("%d lines of log; tailfin_server_stray_packets_total %.0f", lines, stray),
	}.Report(t)
}

// TestCredentials has a secret in the URL of the sink, which nothing may show.
func TestCredentials(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	seen := make(map[string]string)
	// A file's sink is not the one in effect, and a reload says so.
	conf := filepath.Join(t.TempDir(), "tailfin.yaml")
	if err := os.WriteFile(conf, []byte("max-body: 1KiB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := serveObservedByFile(t, conf)
	for i, url := range []string{"nats://someone:" + secret + "@127.0.0.1:1/uploads", "https://someone:" + secret + "@127.0.0.1:1/", "nats://" + secret + "@127.0.0.1:1/uploads"} {
		if err := os.WriteFile(conf, fmt.Appendf(nil, "max-body: 1KiB\nsink: %s\n", url), 0o600); err != nil {
			t.Fatal(err)
		}
		d.signal(t, syscall.SIGHUP)
		eventually(t, "the reload is logged", func() bool { return d.lines("option=sink") > i })
		for _, end := range []string{"?x=%zz", "%zz", ":x:/"} {
			for _, args := range [][]string{
				{"config", "show", "--sink", url + end},
				{"serve", "--listen", "no address", "--sink", url + end},
				{"serve", "--listen", "127.0.0.1:0", "--sink", "https" + strings.TrimPrefix(strings.TrimPrefix(url, "https"), "nats") + end},
				{"serve", "--sink", "ftp" + url + end},
			} {
				r := runTailfin(t, args...)
				seen[fmt.Sprint(i, args[0], args[1], end)] = r.stdout + r.stderr
				if r.code == exitOK && args[0] == "serve" {
					t.Errorf("%v: is taken", args)
				}
			}
		}
		if err := os.WriteFile(conf, fmt.Appendf(nil, "sink: %s\nmax-conns: 0\n", url), 0o600); err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(i, "check")] = runTailfin(t, "config", "check", conf).stderr
	}
	for _, path := range []string{"/", "/metrics", "/readyz", "/status.json", "/debug/config"} {
		_, seen[path] = d.page(t, path)
	}
	d.stop(t)
	seen["log"] = d.log.String()
	for where, text := range seen {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret:\n%s", where, text)
		}
	}
}

func sumOfFile(name string) (string, error) {
	text, err := os.ReadFile(name)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// serveObservedByFile starts one that takes its sink from the default.
func serveObservedByFile(t *testing.T, conf string) *observed {
	t.Helper()
	return observe(t, serveAs(t, func(cmd *exec.Cmd) {
		cmd.Args = []string{cmd.Args[0], "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", conf}
	}))
}
