package natssink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// inProcess runs a nats-server with JetStream in this process, and gives its
// address.
func inProcess(t testing.TB, change func(*server.Options)) string {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true}
	if change != nil {
		change(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("nats-server is not ready")
	}
	return s.Addr().String()
}

// A natsProcess is a nats-server of its own, that can be killed and started
// again on the same folder and address.
type natsProcess struct {
	config string
	addr   string
	log    *bytes.Buffer // of the running one; read after its end
	cmd    *exec.Cmd
}

// newProcess writes the configuration of a server and starts it. It syncs each
// message, as the documentation advises. That makes no difference to kill -9, which
// leaves the page cache; it does make room for kills between write and
// answer.
func newProcess(t *testing.T) *natsProcess {
	t.Helper()
	dir := t.TempDir()
	p := &natsProcess{config: filepath.Join(dir, "nats.conf"), addr: freeAddr(t)}
	config := fmt.Sprintf("listen: %q\njetstream {\n  store_dir: %q\n  sync_interval: always\n}\n", p.addr, filepath.Join(dir, "store"))
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	t.Cleanup(p.kill)
	return p
}

// freeAddr finds a port below those that the kernel gives to clients: a client
// that connects again and again must not get the server's own.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func (p *natsProcess) start(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd, p.log = exec.Command(exe, "-c", p.config), &bytes.Buffer{}
	p.cmd.Env = append(os.Environ(), asServer+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		nc, err := nats.Connect("nats://" + p.addr)
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(limit) {
			p.kill()
			t.Fatalf("nats-server does not start: %v\n%s", err, p.log)
		}
	}
}

// kill is kill -9.
func (p *natsProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// open opens a sink that the test closes.
func open(t testing.TB, url string, opts Options) *Sink {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A view is another client, that looks at what was stored.
type view struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	bucket jetstream.ObjectStore
}

func look(t *testing.T, addr string) view {
	t.Helper()
	nc, err := nats.Connect("nats://"+addr, nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "UPLOADS")
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.ObjectStore(t.Context(), "UPLOADS")
	if err != nil {
		t.Fatal(err)
	}
	return view{js, stream, bucket}
}

// messages gives every message of the stream, in order.
func (v view) messages(t *testing.T) []*jetstream.RawStreamMsg {
	t.Helper()
	info, err := v.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []*jetstream.RawStreamMsg
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := v.stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// body gives the body that a message carries or refers to. The object is read
// by the client of object stores in nats.go, which checks its digest.
func (v view) body(t *testing.T, m *jetstream.RawStreamMsg) []byte {
	t.Helper()
	if m.Header.Get(HeaderBody) == BodyInline {
		return m.Data
	}
	var ref Reference
	if err := json.Unmarshal(m.Data, &ref); err != nil {
		t.Fatal(err)
	}
	b, err := v.bucket.GetBytes(t.Context(), ref.Object)
	if err != nil {
		t.Fatalf("message %d refers to object %s of bucket %s: %v", m.Sequence, ref.Object, ref.Bucket, err)
	}
	return b
}

// objects gives the number of whole objects, and of those of which there are
// chunks.
func (v view) objects(t *testing.T) (whole, begun int) {
	t.Helper()
	stream, err := v.js.Stream(t.Context(), "OBJ_UPLOADS")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("$O.UPLOADS.C.*"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := v.bucket.List(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		t.Fatal(err)
	}
	return len(list), len(info.State.Subjects)
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// random gives n bytes that no other call gives.
func random(n int) []byte {
	b := make([]byte, n)
	randomness.Lock()
	defer randomness.Unlock()
	_, _ = randomness.r.Read(b)
	return b
}

var randomness = struct {
	sync.Mutex
	r *rand.ChaCha8
}{r: rand.NewChaCha8([32]byte{1: byte(os.Getpid()), 2: byte(os.Getpid() >> 8)})}

func upload(name string, length int) sink.Upload {
	return sink.Upload{Name: name, Time: time.Now(), Peer: "192.0.2.1:999", Method: "PUT", Host: "example.net", Path: "/" + name, Length: int64(length)}
}

func store(t *testing.T, s *Sink, name string, body []byte) {
	t.Helper()
	r, err := s.Store(t.Context(), upload(name, len(body)), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != name || r.Bytes != int64(len(body)) || r.SHA256 != sumOf(body) {
		t.Fatalf("receipt %+v for %d bytes of %s", r, len(body), name)
	}
}

func fetch(t *testing.T, s *Sink, name string) []byte {
	t.Helper()
	obj, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	b, err := io.ReadAll(obj)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
