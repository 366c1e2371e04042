package soak

import (
	"fmt"
	"strings"
	"testing"
)

func TestLog(t *testing.T) {
	l := newLog()
	text := `time=1 level=WARN msg="a certificate for development"` + "\n" +
		`ready listen=127.0.0.1:4433 backend=uring gro=on drain=on shards=2 sink=dir:/x admin=127.0.0.1:9433 reason="it works"` + "\n" +
		"panic: no\n\tand where\n"
	for i := range len(text) { // by single bytes
		if n, err := l.Write([]byte(text[i : i+1])); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := <-l.ready; got != (ready{"127.0.0.1:4433", "uring", "127.0.0.1:9433"}) {
		t.Errorf("%+v", got)
	}
	if l.panicked() != 1 || !strings.Contains(l.tail(), "and where") {
		t.Errorf("%d panics, %q", l.panicked(), l.tail())
	}
	for i := range 10 * maxLogLines {
		fmt.Fprintf(l, "line %d %s\n", i, strings.Repeat("x", 2*maxLogLine))
	}
	if _, err := l.Write([]byte("ready listen=again")); err != nil { // and no end
		t.Error(err)
	}
	tail := l.tail()
	if len(tail) > (maxLogLines+1)*(maxLogLine+1) || !strings.HasSuffix(tail, "\nready listen=again") || strings.Contains(tail, "panic") {
		t.Errorf("%d bytes are kept", len(tail))
	}
}
