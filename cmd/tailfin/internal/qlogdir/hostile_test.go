package qlogdir

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// hostileIDs are connection IDs as clients may choose them: bytes of any kind, twice the
// same, none.
func hostileIDs(n int) [][]byte {
	list := [][]byte{
		{}, []byte("../../../etc/passwd"), []byte("/etc/passwd"), []byte("a/../../b"), []byte(".."), []byte("."), []byte("a\x00b"), []byte("a\nb"), []byte("*?[x]-*"), []byte("~root"),
		bytes.Repeat([]byte{0xff}, 20), bytes.Repeat([]byte{0}, 20), []byte("same"), []byte("same"), []byte("same"), []byte("%s%n%2f"),
	}
	for range n {
		id := make([]byte, rand.N(21))
		for i := range id {
			id[i] = byte(rand.N(256))
		}
		list = append(list, id)
	}
	return list
}

var fileName = regexp.MustCompile(`^(\(empty\)|[0-9a-f]{1,40})-[0-9]+_server\.sqlog$`)

// TestHostileConnectionIDs: a connection's ID, which its client chooses, leads to no file
// outside of the folder, and there are as many as are allowed.
func TestHostileConnectionIDs(t *testing.T) {
	const most = 200
	outside := t.TempDir()
	dir := filepath.Join(outside, "qlogs")
	var log bytes.Buffer
	d, err := Open(dir, most, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ids := hostile.Result{Kind: "client", Fault: "connection IDs that are paths, or the same, towards --qlog-dir"}
	for _, id := range hostileIDs(hostile.Size(300, 20_000)) {
		ids.Tries++
		trace := d.Trace(t.Context(), false, quic.ConnectionIDFromBytes(id))
		if trace == nil {
			continue
		}
		producer := trace.AddProducer()
		done := make(chan struct{})
		go func() { _ = producer.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			ids.Crashed++
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !fileName.MatchString(e.Name()) || !e.Type().IsRegular() {
			t.Errorf("there is %q", e.Name())
			ids.Corrupt++
		}
	}
	if around, err := os.ReadDir(outside); err != nil || len(around) != 1 {
		t.Errorf("there are %v outside of the folder, %v", around, err)
		ids.Leaked += len(around) - 1
	}
	ids.Leaked += max(len(list)-most, 0)
	ids.Lost += max(min(ids.Tries, most)-len(list), 0)
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines tell that there are enough:\n%s", n, &log)
	}
	ids.Bound = fmt.Sprintf("%d files (--qlog-max %d), all in the folder, named in hexadecimal", len(list), most)
	ids.Report(t)
}
