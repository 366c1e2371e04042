package natssink

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

func FuzzToken(f *testing.F) {
	for _, name := range []string{"report", "report.csv", "a b", "*", ">", "$SYS", "ünï", "100%", "a.>.b", strings.Repeat(".", 200), "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if sink.CheckName(name) != nil {
			return
		}
		token := Token(name)
		if got, err := NameOf(token); err != nil || got != name {
			t.Fatalf("%q became %q, which is read as %q, %v", name, token, got, err)
		}
		if subject := "UPLOADS." + token; !server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") != 1 {
			t.Fatalf("%q is no subject of two tokens", subject)
		}
	})
}

func TestMessageID(t *testing.T) {
	id := func(name, key, sum string) string {
		up := sink.Upload{Name: name, Header: http.Header{}}
		if key != "" {
			up.Header.Set("Idempotency-Key", key)
		}
		return messageID(up, sum)
	}
	first, again := id("a", "k", "s"), id("a", "k", "s")
	if first != again {
		t.Error("the same upload has two IDs")
	}
	first, again = id("a", "", "s"), id("a", "", "s")
	if first == again {
		t.Error("two uploads without a key have one ID")
	}
	seen := map[string]bool{}
	for _, up := range [][3]string{{"a", "k", "s"}, {"b", "k", "s"}, {"a", "l", "s"}, {"a", "k", "t"}, {"ak", "k", "s"}, {"a", "kk", "s"}, {"a1", ":k", "s"}} {
		seen[id(up[0], up[1], up[2])] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d IDs for seven uploads", len(seen))
	}
}

func TestHeaderIsClean(t *testing.T) {
	cfg, err := ParseURL("nats://h/S?headers=X-Id,X-Absent")
	if err != nil {
		t.Fatal(err)
	}
	up := sink.Upload{Name: "a b", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Path: "/a%20b?" + strings.Repeat("x", 100_000), Peer: "p\r\nInjected: 1",
		Header: http.Header{"X-Id": {"1", "2"}, "Cookie": {"secret"}}}
	h := cfg.header(up)
	if len(h.Get(HeaderPath)) != maxValue || h.Get(HeaderName) != "a%20b" || h.Get(HeaderTime) != "2026-01-02T03:04:05.000000006Z" ||
		h.Get(HeaderPeer) != "p  Injected: 1" || h.Get(HeaderRequest+"X-Id") != "1, 2" {
		t.Errorf("header %v", h)
	}
	for name := range h {
		if strings.Contains(name, "Cookie") || strings.Contains(name, "Absent") {
			t.Errorf("header %s was not asked for", name)
		}
	}
}
