package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
	natssink "github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink/nats"
)

const (
	natsUser     = "uploads"
	natsPassword = "p@ss/SECRET"
	natsEscaped  = "p%40ss%2FSECRET"
)

// startNATS runs a nats-server in this process, and gives its port, which is a
// free one for port -1, and a way to stop it.
func startNATS(t *testing.T, dir string, port int) (int, func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir,
		NoLog: true, NoSigs: true, Username: natsUser, Password: natsPassword})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	stop := func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	t.Cleanup(stop)
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	return s.Addr().(*net.TCPAddr).Port, stop
}

// natsMessages gives the messages of the stream, by another client.
func natsMessages(t *testing.T, port int) []*jetstream.RawStreamMsg {
	t.Helper()
	nc, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", port), nats.UserInfo(natsUser, natsPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "UPLOADS")
	if err != nil {
		t.Fatal(err)
	}
	var list []*jetstream.RawStreamMsg
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// TestServeNATS puts and gets through a daemon whose sink is JetStream, and takes
// the nats-server away for a while.
func TestServeNATS(t *testing.T) {
	dir := t.TempDir()
	port, stop := startNATS(t, dir, server.RANDOM_PORT)
	d := serve(t, "--sink", fmt.Sprintf("nats://%s:%s@127.0.0.1:%d/UPLOADS?create=1&wait=500ms", natsUser, natsEscaped, port))
	base := "https://" + d.addr + "/"
	for name, size := range map[string]int{"small.csv": 1000, "large.bin": 3 << 20} {
		file, sum := writeFile(t, size)
		if r := runTailfin(t, "put", file, base+name, "--insecure"); r.code != exitOK || !strings.Contains(r.stdout, "201") {
			t.Fatalf("put: %+v\n%s", r, d.log)
		}
		r := runTailfin(t, "get", base+name, "--insecure", "--json")
		var got client.Downloaded
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got.SHA256 != sum || !got.Complete || got.Status != 200 {
			t.Fatalf("get: %+v, %v\n%s", r, err, d.log)
		}
	}
	if r := runTailfin(t, "get", base+"absent", "--insecure"); r.code != exitFailed || !strings.Contains(r.stderr, "404") {
		t.Fatalf("get of nothing: %+v", r)
	}
	file, _ := writeFile(t, 100)
	stop()
	if r := runTailfin(t, "put", file, base+"late", "--insecure"); r.code != exitFailed || !strings.Contains(r.stderr, "503") {
		t.Fatalf("put without nats-server: %+v\n%s", r, d.log)
	}
	startNATS(t, dir, port)
	for limit := time.Now().Add(time.Minute); ; {
		if r := runTailfin(t, "put", file, base+"late", "--insecure"); r.code == exitOK {
			break
		} else if time.Now().After(limit) {
			t.Fatalf("put after nats-server came back: %+v\n%s", r, d.log)
		}
	}
	d.stop(t)
	if strings.Contains(d.log.String(), "SECRET") {
		t.Errorf("the password is in the log:\n%s", d.log)
	}
	list := natsMessages(t, port)
	if len(list) != 3 {
		t.Fatalf("%d messages for three uploads", len(list))
	}
	for _, m := range list {
		if h := m.Header; h.Get(natssink.HeaderMethod) != http.MethodPut && h.Get(natssink.HeaderMethod) != http.MethodPost ||
			h.Get(natssink.HeaderHost) != d.addr || !strings.HasPrefix(h.Get(natssink.HeaderPeer), "127.0.0.1:") {
			t.Errorf("message %s has headers %v", m.Subject, h)
		}
	}
}

// TestServeNATSOnce has a client that sends the same upload again.
func TestServeNATSOnce(t *testing.T) {
	port, _ := startNATS(t, t.TempDir(), server.RANDOM_PORT)
	d := serve(t, "--sink", fmt.Sprintf("nats://%s:%s@127.0.0.1:%d/UPLOADS?create=1", natsUser, natsEscaped, port))
	client := &tailfin.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer func() { _ = client.Close() }()
	for _, size := range []int{500, 1 << 20} {
		body := peer.Pattern(size)
		sum := sha256.Sum256(body)
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("https://%s/report-%d", d.addr, size), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Idempotency-Key", "4711")
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			var receipt struct{ SHA256 string }
			err = json.NewDecoder(resp.Body).Decode(&receipt)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusCreated || err != nil || receipt.SHA256 != hex.EncodeToString(sum[:]) {
				t.Fatalf("%s, %v", resp.Status, err)
			}
		}
	}
	if n := len(natsMessages(t, port)); n != 2 {
		t.Fatalf("%d messages for two uploads, sent three times each", n)
	}
}

// TestServeNATSCloseAfterFIN has clients that close behind their last byte and
// wait for no answer: what they sent is stored.
func TestServeNATSCloseAfterFIN(t *testing.T) {
	port, _ := startNATS(t, t.TempDir(), server.RANDOM_PORT)
	d := serve(t, "--sink", fmt.Sprintf("nats://%s:%s@127.0.0.1:%d/UPLOADS?create=1&inline=20KiB", natsUser, natsEscaped, port))
	const uploads = 10
	for name, size := range map[string]int{"inline": 9000, "object": 300_000} {
		file, sum := writeFile(t, size)
		r := runTailfin(t, "put", file, "https://"+d.addr+"/"+name, "--insecure", "--close-after-fin", "--count", fmt.Sprint(uploads))
		if r.code != exitOK {
			t.Fatalf("put: %+v", r)
		}
		for i := 1; i <= uploads; i++ {
			// Nothing tells the client when it is stored; whoever reads waits.
			for limit := time.Now().Add(time.Minute); ; {
				r := runTailfin(t, "get", fmt.Sprintf("https://%s/%s-%d", d.addr, name, i), "--insecure", "--json")
				if strings.Contains(r.stdout, sum) {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("upload %d of %d bytes: %+v\n%s", i, size, r, d.log)
				}
			}
		}
	}
	d.stop(t)
	if n := len(natsMessages(t, port)); n != 2*uploads {
		t.Fatalf("%d messages for %d uploads", n, 2*uploads)
	}
}

// TestServeNATSBadInput has what a user gets wrong.
func TestServeNATSBadInput(t *testing.T) {
	port, _ := startNATS(t, t.TempDir(), server.RANDOM_PORT)
	for url, want := range map[string][]string{
		fmt.Sprintf("nats://%s:%s@127.0.0.1:%d/UPLOADS", natsUser, natsEscaped, port):          {"UPLOADS does not exist", "nats stream add UPLOADS"},
		fmt.Sprintf("nats://%s:SECRET@127.0.0.1:%d/UPLOADS", natsUser, port):                   {"uthorization"},
		fmt.Sprintf("nats://%s:%s@127.0.0.1:%d/UPLOADS?inline=x", natsUser, natsEscaped, port): {"inline=x", "256KiB"},
		"nats://u:SECRET/x@127.0.0.1/UPLOADS":                                                  {"%2F"},
	} {
		r := runTailfin(t, "serve", "--listen", "127.0.0.1:0", "--sink", url)
		if r.code != exitUsage {
			t.Errorf("%s: exit code %d, want %d", url, r.code, exitUsage)
		}
		for _, part := range append(want, "--sink") {
			if !strings.Contains(r.stderr, part) {
				t.Errorf("%s: the message does not say %q:\n%s", url, part, r.stderr)
			}
		}
		if strings.Contains(r.stderr+r.stdout, "SECRET") {
			t.Errorf("%s: the password shows:\n%s", url, r.stderr)
		}
	}
}
