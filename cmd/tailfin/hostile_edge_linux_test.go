package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/certmagic"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// hostileWords are what clients put into paths, hosts, agents, methods and server names.
var hostileWords = []string{
	"../../out", "..%2f..%2fout", "%2e%2e%2fout", "..%5cout", "a%00b", "a%0d%0alevel=ERROR%20msg=forged", "a%1b%5b2J", "%c2%9b31m", "%e2%80%aegnp", "%ff%fe", ".incoming", ".uploads%2fx", "lost+found", "*", "%3e", "$(id)",
	"<script>alert(1)<%2fscript>", "%22%20level=ERROR%20msg=%22forged", "%7b%22msg%22:%22forged%22%7d", "status=201", "a%20b", "%e2%80%a8", "%2525", "CON", "-rf", strings.Repeat("a", 300), strings.Repeat("%0a", 3000),
}

// fieldWord is a word as a field value may have it.
func fieldWord(word string) string {
	return strings.NewReplacer("%22", `"`, "%20", " ", "%2f", "/", "%5c", `\`, "%3e", ">", "%7b", "{", "%7d", "}", "%ff", "\xff", "%fe", "\xfe", "%c2%9b", "\u009b", "%e2%80%ae", "\u202e", "%e2%80%a8", "\u2028").Replace(word)
}

// hostileFields are a request that says a word wherever it can.
func hostileFields(method, word string) []h3frame.Field {
	value := strings.TrimSpace(fieldWord(word))
	return []h3frame.Field{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "upload.example"}, {Name: ":path", Value: "/" + word + "?" + word},
		{Name: "user-agent", Value: value}, {Name: "referer", Value: value}, {Name: "x-forwarded-for", Value: value}, {Name: "content-type", Value: value}, {Name: "idempotency-key", Value: value},
	}
}

// below are the files below a folder.
func below(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, rerr := filepath.Rel(dir, path)
			list = append(list, rel)
			err = rerr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// badLine is what is wrong with a line of the daemon's log; empty if nothing is.
func badLine(line string, asJSON bool) string {
	switch {
	case strings.HasPrefix(line, "ready "):
		return ""
	case len(line) > 40_000:
		return fmt.Sprintf("%d bytes", len(line))
	case !utf8.ValidString(line), strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }):
		return "a control character, or no UTF-8"
	}
	level, message := "", ""
	if asJSON {
		var rec struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &rec); err != nil || rec.Time == "" {
			return fmt.Sprint("no record: ", err)
		}
		level, message = rec.Level, rec.Msg
	} else {
		m := textLine.FindStringSubmatch(line)
		if m == nil {
			return "no record"
		}
		level, message = m[1], m[2]
	}
	if level == "ERROR" || message == "forged" {
		return "it is forged"
	}
	return ""
}

// textLine is a record in text: each value is quoted, or has neither space nor "=".
var textLine = regexp.MustCompile(`^time=\S+ level=([A-Z]+) msg=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: [A-Za-z0-9_.]+=(?:"(?:[^"\\]|\\.)*"|[^ "=]*))*$`)

// TestHostileClients has a daemon's clients say hostile words wherever they can: in
// paths, fields, methods and server names. What is stored, logged and counted is as it
// should be.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"text", "json"} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		if err := os.WriteFile(out, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		stored, qlogs := filepath.Join(dir, "stored"), filepath.Join(dir, "qlogs")
		d := serveObserved(t, "--sink", "dir:"+stored, "--log-format", form, "--log-level", "debug", "--qlog-dir", qlogs, "--qlog-max", "5", "--key-log", filepath.Join(dir, "keys"))
		words := hostile.Result{Kind: "client", Fault: "hostile paths, fields, methods and server names at a daemon, log " + form}
		dialed := hostileServerNames(t, d.addr)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		client, err := peer.DialFields(ctx, d.addr)
		if err != nil {
			t.Fatal(err)
		}
		answered, kept := 0, make(map[string]bool)
		ask := func(method, word string) {
			words.Tries++
			a, err := client.Do(ctx, hostileFields(method, word), []byte("x"), nil)
			if client.Closed() {
				t.Fatalf("%s %.60q cost the connection: %v", method, word, err)
			}
			if err != nil {
				return // malformed
			}
			answered++
			var receipt struct{ Name string }
			switch {
			case a.Status == 201 && json.Unmarshal(a.Body, &receipt) == nil:
				kept[receipt.Name] = true
			case a.Status >= 500 || strings.Contains(string(a.Body), "secret"):
				t.Errorf("%s %.60q: %d %.100q", method, word, a.Status, a.Body)
				words.Corrupt++
			}
		}
		ask("GET", "first")
		ask("NONE", "first")
		before := d.series(t)
		for _, method := range []string{"PUT", "GET", "POST"} {
			for _, word := range hostileWords {
				ask(method, word)
			}
		}
		for i := range hostile.Size(100, 10_000) {
			ask(fmt.Sprint("EVIL-", i), fmt.Sprint("evil-", i))
		}
		cancel()
		client.Close()
		eventually(t, "all are logged", func() bool { return d.requestLines(form) >= answered })
		if n := d.requestLines(form); n != answered {
			t.Errorf("%d access lines of %d requests", n, answered)
			words.Corrupt++
		}
		for line := range strings.Lines(d.log.String()) {
			if problem := badLine(strings.TrimSuffix(line, "\n"), form == "json"); problem != "" {
				t.Errorf("%s: %.300q", problem, line)
				words.Corrupt++
			}
		}
		after := d.series(t)
		words.Leaked += max(after-before-40, 0) // methods and statuses that were not asked for before
		if got := below(t, stored); len(got) != len(kept) {
			t.Errorf("stored are %q, and receipts name %d", got, len(kept))
			words.Lost += max(len(kept)-len(got), 0)
			words.Leaked += max(len(got)-len(kept), 0)
		}
		if text, err := os.ReadFile(out); err != nil || string(text) != "secret" {
			words.Corrupt++
		}
		traces := below(t, qlogs)
		for _, name := range traces {
			if !regexp.MustCompile(`^[0-9a-f]+-[0-9]+_server\.sqlog$`).MatchString(name) {
				t.Errorf("there is the qlog %q", name)
				words.Leaked++
			}
		}
		// All that there is beside: out and keys.
		words.Leaked += len(below(t, dir)) - len(kept) - len(traces) - 2
		d.stop(t)
		words.Bound = fmt.Sprintf("%d answered with a line each, %d stored; %d series, %d before; %d qlogs (5) of %d connections", answered, len(kept), after, before, len(traces), dialed+1)
		words.Report(t)
	}
}

// hostileServerNames makes connections for server names (SNI) that are paths, and returns
// how many it tried.
func hostileServerNames(t *testing.T, addr string) (n int) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	tr := &quic.Transport{Conn: socket}
	defer func() { _ = tr.Close() }()
	for _, word := range hostileWords {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, err := tr.Dial(ctx, to, &tls.Config{InsecureSkipVerify: true, ServerName: fieldWord(word), NextProtos: []string{"h3"}}, nil)
		cancel()
		if err == nil { // else the name is not even one for TLS
			_ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
		}
		n++
	}
	return n
}

// requestLines are the access lines.
func (d *daemon) requestLines(form string) int {
	if form == "json" {
		return d.lines(`"msg":"request"`)
	}
	return d.lines(" msg=request ")
}

// series counts those of all metrics.
func (d *observed) series(t *testing.T) (n int) {
	t.Helper()
	_, text := d.page(t, "/metrics")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	if strings.Contains(text, "evil") || strings.Contains(text, "EVIL") {
		t.Error("what clients say is in the metrics")
	}
	return n
}

// TestHostileACMENames: a name that a client of the ACME challenge asks for, which is
// looked up in the storage, is no path.
func TestHostileACMENames(t *testing.T) {
	dir := t.TempDir()
	storage := &certmagic.FileStorage{Path: dir}
	names := hostile.Result{Kind: "client", Fault: "names of ACME challenges that are paths"}
	for _, word := range append(hostileWords, "..", "a/../../../../etc/passwd", `..\..\x`, "a\x00b", "\xff", strings.Repeat("../", 1000)) {
		for _, name := range []string{word, fieldWord(word), "*." + word} {
			names.Tries++
			file := storage.Filename(path.Join("acme", "ca", "challenge_tokens", certmagic.StorageKeys.Safe(name)+".json"))
			if filepath.Dir(file) != filepath.Join(dir, "acme", "ca", "challenge_tokens") {
				t.Errorf("%.60q is looked up as %.200q", name, file)
				names.Leaked++
			}
		}
	}
	names.Bound = "all within challenge_tokens; certificates are looked up by the names of --acme-domain only"
	names.Report(t)
}
