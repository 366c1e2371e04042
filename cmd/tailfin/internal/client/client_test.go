package client

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds the waits of tests. It is long: what they wait for always comes.
const patience = 30 * time.Second

// serve answers over HTTP/3 until the test ends.
func serve(t *testing.T, h http.Handler) *url.URL {
	t.Helper()
	cert, err := devcert.New()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &tailfin.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(conn)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = conn.Close()
	})
	return &url.URL{Scheme: "https", Host: conn.LocalAddr().String(), Path: "/report"}
}

// newSession returns a session that trusts anyone and hardly pauses, and its notes.
func newSession(t *testing.T, retries int) (*Session, *notes) {
	t.Helper()
	n := &notes{}
	s := &Session{
		NewTransport: func() *tailfin.Transport {
			return &tailfin.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
		},
		Retries:   retries,
		RetryWait: time.Millisecond,
		Notes:     n,
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, n
}

// notes gathers what a session says.
type notes struct{ peer.Output }

// size is how many bytes were written.
func (n *notes) size() int64 { return int64(len(n.String())) }

// noise is a body in which no part is like another.
func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = r.Read(b)
	return b
}

// writeFile returns a file with content, old enough that its date is a validator.
func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantFolder fails unless dir has these files and no others.
func wantFolder(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if fmt.Sprint(have) != fmt.Sprint(names) {
		t.Fatalf("folder has %v, want %v", have, names)
	}
}

func wantNote(t *testing.T, n *notes, part string) {
	t.Helper()
	if !strings.Contains(n.String(), part) {
		t.Fatalf("notes do not say %q:\n%s", part, n)
	}
}
