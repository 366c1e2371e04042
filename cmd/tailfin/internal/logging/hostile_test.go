package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
)

// hostileValues are what clients put into paths, names and certificates so that the log
// says what did not happen, or moves the terminal that shows it.
func hostileValues() []string {
	list := []string{
		"", " ", "=", `"`, `\`, `\"`, "'", "`", "\n", "\r\n", "a\nb", "\t", "\x00", "a\u2028b", "\u2029", "\u0085", "\v", "\f",
		"x\ntime=2026-01-01T00:00:00Z level=INFO msg=request peer=127.0.0.1:1 status=201",
		"x\n{\"level\":\"INFO\",\"msg\":\"forged\"}\n", `x" level=ERROR msg="forged`, `","msg":"forged`, "x level=ERROR", "status=201", "a=b c=d", "}", "]", "{\"a\":1}",
		"\x1b[2J\x1b[1;31mforged", "\x1b]0;title\x07", "\u009b31m", "\u009d0;title\u009c", "\x7f", "a\x7fb", "\b\b\b", "\u202egnp.exe", "\u2066a\u2069", "\u200e", "\ufeff", "\u200b",
		"\xff", "a\xffb", "\xc0\x8a", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc2", "\x9b31m", "%n%s%x", "${jndi:ldap://evil}", "<script>", "&amp;", "\U0001f600", "ünïcode",
		strings.Repeat("a", maxValue), strings.Repeat("a", maxValue+1), strings.Repeat("a", 60_000), strings.Repeat("\n", 60_000), strings.Repeat("\xff", 60_000), strings.Repeat("ü", 30_000), strings.Repeat(`"`, 60_000),
		strings.Repeat("a", 48<<10-300) + " level=ERROR msg=forged", // where journald splits
	}
	for c := range 256 {
		list = append(list, "x"+string(rune(c))+"y", "x"+string([]byte{byte(c)})+"y")
	}
	return list
}

// maxLine is more than any access line has: six values, of which each byte may take six.
const maxLine = 6*6*(maxValue+50) + 500

// parseText takes a line of slog's text form apart, and nothing else.
func parseText(line string) (map[string]string, error) {
	fields := make(map[string]string)
	for line != "" {
		key, rest, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsAny(key, " \"") || key == "" {
			return nil, fmt.Errorf("no key in %.60q", line)
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, err
			}
			rest = rest[len(quoted):]
			if value, err = strconv.Unquote(quoted); err != nil {
				return nil, err
			}
		} else {
			value, rest, _ = strings.Cut(rest, " ")
			rest = " " + rest
			value = strings.ReplaceAll(value, `\u007f`, "\x7f")
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("%s twice", key)
		}
		fields[key], line = value, strings.TrimPrefix(rest, " ")
	}
	return fields, nil
}

// parseJSON is the same for JSON.
func parseJSON(line string) (map[string]string, error) {
	dec := json.NewDecoder(strings.NewReader(line))
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("more than an object")
	}
	fields := make(map[string]string)
	for key, value := range all {
		fields[key] = fmt.Sprint(value)
	}
	return fields, nil
}

// TestHostileLog has requests say what would end a line, begin another, add to it or move
// the terminal: each has one line, with the values that came and no others.
func TestHostileLog(t *testing.T) {
	for _, form := range []string{"text", "json"} {
		t.Run(form, func(t *testing.T) {
			parse, row := parseText, hostile.Result{Kind: "client", Fault: "line ends, escapes and forged fields in the log, " + form}
			if form == "json" {
				parse = parseJSON
			}
			var out bytes.Buffer
			longest := 0
			log, access := New(&out, Options{JSON: form == "json", Level: slog.LevelDebug})
			for _, evil := range hostileValues() {
				row.Tries++
				out.Reset()
				h := accesslog.New(access, nil).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					accesslog.Add(r.Context(), slog.String("name", evil))
					accesslog.Fail(r.Context(), fmt.Errorf("the client's certificate for %q: %s", evil, evil))
				}))
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Method, r.RemoteAddr, r.URL.Path = evil, evil, evil
				h.ServeHTTP(httptest.NewRecorder(), r)
				log.Debug("client certificate refused", "peer", evil, "method", evil, "path", evil, "name", evil, "err", errors.New(evil))
				lines := strings.SplitAfter(out.String(), "\n")
				if len(lines) != 3 || lines[2] != "" {
					t.Errorf("%.60q: %d lines of 2 records", evil, len(lines)-1)
					row.Corrupt++
					continue
				}
				for i, line := range lines[:2] {
					longest = max(longest, len(line))
					if problem := hostileLine(line, evil, i == 0, parse); problem != "" {
						t.Errorf("%.60q: %s in %.300q", evil, problem, line)
						row.Corrupt++
					}
				}
			}
			row.Bound = fmt.Sprintf("%d requests, a line each; the longest has %d bytes, a value %d", row.Tries, longest, maxValue)
			row.Report(t)
		})
	}
}

// hostileLine is what is wrong with a line; empty if nothing is.
func hostileLine(line, evil string, access bool, parse func(string) (map[string]string, error)) string {
	line = strings.TrimSuffix(line, "\n")
	if len(line) > maxLine {
		return fmt.Sprintf("%d bytes", len(line))
	}
	if !utf8.ValidString(line) {
		return "no UTF-8"
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
		return fmt.Sprintf("a control character at %d", i)
	}
	fields, err := parse(line)
	if err != nil {
		return err.Error()
	}
	keys := []string{"err", "level", "method", "msg", "name", "path", "peer", "time"}
	if access {
		keys = []string{"err", "level", "method", "ms", "msg", "name", "path", "peer", "sent", "status", "time"}
	}
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, keys) {
		return fmt.Sprintf("keys %q", got)
	}
	if level := map[bool]string{true: "WARN", false: "DEBUG"}[access]; fields["level"] != level {
		return "level " + fields["level"]
	}
	for _, key := range []string{"peer", "method", "path", "name"} {
		got, want := fields[key], evil
		if len(evil) > maxValue {
			if !utf8.ValidString(evil) {
				continue // its length is another one by now
			}
			got, _, _ = strings.Cut(got, "…")
			if len(got) > maxValue || len(got) < maxValue-utf8.UTFMax {
				return fmt.Sprintf("%s of %d bytes", key, len(got))
			}
			want = evil[:len(got)]
		}
		if got != want && got != string([]rune(want)) { // JSON has no bytes that are not UTF-8
			return fmt.Sprintf("%s is %.60q", key, got)
		}
	}
	return ""
}

// TestHostileFlood has a peer cause the same line again and again.
func TestHostileFlood(t *testing.T) {
	const workers, allowed = 8, 10
	records := hostile.Size(50_000, 5_000_000)
	var mu sync.Mutex
	var out bytes.Buffer
	log, _ := New(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), Options{JSON: true, Level: slog.LevelInfo, Repeat: allowed})
	begun := time.Now()
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range records / workers {
				log.Warn("client certificate refused", "peer", fmt.Sprint(w, i), "err", errors.New("unknown authority"))
			}
		})
	}
	all.Wait()
	flood := hostile.Result{Kind: "client", Fault: "a flood of what is logged", Tries: records / workers * workers}
	written, suppressed, size := 0, 0, 0
	for deadline := time.Now().Add(time.Minute); written+suppressed < flood.Tries && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		written, suppressed = 0, 0
		mu.Lock()
		text := out.String()
		mu.Unlock()
		size = len(text)
		for line := range strings.Lines(text) {
			var rec struct{ Suppressed int }
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			if rec.Suppressed > 0 {
				suppressed += rec.Suppressed
			} else {
				written++
			}
		}
	}
	flood.Lost = flood.Tries - written - suppressed
	windows := int(time.Since(begun)/window) + 1
	if written > allowed*windows {
		t.Errorf("%d lines in %d windows of a second", written, windows)
		flood.Leaked++
	}
	flood.Bound = fmt.Sprintf("%d lines with %d bytes in %d s (--log-repeat %d), which count the other %d", written, size, windows, allowed, suppressed)
	flood.Report(t)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
