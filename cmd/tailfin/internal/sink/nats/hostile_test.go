package natssink

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// hostileSubjects are names that mean something in a subject of NATS, or look like others.
var hostileSubjects = []string{
	"*", ">", "a.>", "a.*", "*.*", "a.b.c", "a b", " ", "$SYS", "$JS.API.STREAM.DELETE.UPLOADS", "UPLOADS", "UPLOADS.a", "a", "A", "a%2Eb", "a.b", "100%", "%",
	"a\u200db", "é", "e\u0301", "a..b", "a.", "-", "_INBOX", "a;b", "a\u00a0b", strings.Repeat("a.", 100),
}

// TestHostileSubjects stores names that are wildcards, other subjects or several tokens
// in NATS: each is one message on a subject of its own, and is read back under its name
// alone.
func TestHostileSubjects(t *testing.T) {
	addr := inProcess(t, nil)
	s := open(t, "nats://"+addr+"/UPLOADS?create=1&inline=1000&headers=X-Id", Options{})
	subjects := hostile.Result{Kind: "client", Fault: "names with wildcards, dots and spaces, and header injection, at the nats sink", Tries: len(hostileSubjects)}
	for i, name := range hostileSubjects {
		up := upload(name, 10)
		up.Path, up.Host = "/x\r\nTailfin-Name: forged", "h\nTailfin-Size: 0"
		up.Header = http.Header{"X-Id": {"1\r\n\r\nbody", "\x00\xff"}}
		// Some as messages, some as objects.
		body := bytes.Repeat([]byte(fmt.Sprintf("%09d\n", i)), 1+200*(i%2))
		if _, err := s.Store(t.Context(), up, bytes.NewReader(body)); err != nil {
			t.Errorf("%q: %v", name, err)
			subjects.Lost++
		}
	}
	for i, name := range hostileSubjects {
		if got := fetch(t, s, name); !bytes.HasPrefix(got, fmt.Appendf(nil, "%09d\n", i)) {
			t.Errorf("%q is %.20q", name, got)
			subjects.Corrupt++
		}
	}
	seen := map[string]bool{}
	messages := look(t, addr).messages(t)
	for i, m := range messages {
		token, ok := strings.CutPrefix(m.Subject, "UPLOADS.")
		name, err := NameOf(token)
		if !ok || err != nil || strings.ContainsAny(token, ".*> ") || seen[token] || i < len(hostileSubjects) && name != hostileSubjects[i] {
			t.Errorf("message %d is on %q", i, m.Subject)
			subjects.Corrupt++
		}
		seen[token] = true
		for field, values := range m.Header {
			if len(values) != 1 || strings.ContainsAny(values[0], "\r\n\x00") || !strings.HasPrefix(field, "Tailfin-") && !strings.HasPrefix(field, "Nats-") {
				t.Errorf("%s: %q", field, values)
				subjects.Corrupt++
			}
		}
	}
	subjects.Leaked = max(len(messages)-len(hostileSubjects), 0)
	subjects.Bound = fmt.Sprintf("%d messages on %d subjects of two tokens; header values of %d bytes at most", len(messages), len(seen), maxValue)
	subjects.Report(t)
}
