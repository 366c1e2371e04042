package soak

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

func TestContent(t *testing.T) {
	c := content{id: 5, size: 100_003}
	all, err := io.ReadAll(c.from(0))
	if err != nil || len(all) != 100_003 {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
	for _, off := range []int64{0, 1, 7, 8, 9, 4096, 99_999, 100_003} {
		part, err := io.ReadAll(iotest.OneByteReader(c.from(off)))
		if err != nil || !bytes.Equal(part, all[off:]) {
			t.Errorf("from %d: %d bytes, %v", off, len(part), err)
		}
	}
	sum := sha256.Sum256(all)
	if c.sum() != hex.EncodeToString(sum[:]) {
		t.Error("another sum")
	}
	other, _ := io.ReadAll(content{id: 6, size: 100_003}.from(0))
	same := 0
	for i := range all {
		if all[i] == other[i] {
			same++
		}
	}
	if same > 1000 {
		t.Errorf("two contents have %d bytes of %d in common", same, len(all))
	}
}

func TestCompareBody(t *testing.T) {
	c := content{id: 9, size: 70_000}
	all, _ := io.ReadAll(c.from(0))
	wrong := bytes.Clone(all)
	wrong[69_999] ^= 1
	for name, b := range map[string]struct {
		body    []byte
		corrupt bool
	}{
		"whole": {all, false}, "wrong": {wrong, true}, "short": {all[:69_999], true}, "long": {append(bytes.Clone(all), 0), true}, "none": {nil, true},
	} {
		pauses := 0
		_, err := compareBody(bytes.NewReader(b.body), c.size, c.fill, func() { pauses++ })
		if errors.Is(err, errCorrupt) != b.corrupt || err != nil != b.corrupt || !b.corrupt && pauses == 0 {
			t.Errorf("%s: %v, %d pauses", name, err, pauses)
		}
	}
	// What was cut short by an error is not corrupt.
	n, err := compareBody(io.MultiReader(bytes.NewReader(all[:5000]), iotest.ErrReader(io.ErrUnexpectedEOF)), c.size, c.fill, nil)
	if n != 5000 || errors.Is(err, errCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := compareBody(bytes.NewReader(peer.Pattern(100_000)), 100_000, pattern, nil); n != 100_000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestCompareFile(t *testing.T) {
	c := content{id: 1, size: 1000}
	all, _ := io.ReadAll(c.from(0))
	path := filepath.Join(t.TempDir(), "file")
	if err := compareFile(path, c); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, body := range [][]byte{all, all[1:]} {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := compareFile(path, c); errors.Is(err, errCorrupt) != (len(body) < 1000) {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
}
