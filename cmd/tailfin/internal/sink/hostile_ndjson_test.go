package sink

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// hostileTexts are what clients put where a record has it, to end the line or to say
// something else in it.
var hostileTexts = []string{
	"\n", "\r\n", "a\nb", "\"}\n{\"time\":\"forged\",\"name\":\"forged\"}\n", `","sha256":"forged`, `\`, `\u0022`, `\"`, "\x00", "\x1b[2J", "\u2028", "\u2029",
	"\xff\xfe", "\xc0\x8a", "a\xed\xa0\x80", "</script>", "<!--", "{", "]", "null", strings.Repeat(`"`, 60_000), strings.Repeat("\n", 60_000),
}

// TestHostileRecords has the ndjson sink write what would end a record or forge one:
// each upload is one line, and says what came.
func TestHostileRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.ndjson")
	s := openNDJSON(t, file, Options{NDJSON: NDJSONOptions{Headers: []string{"User-Agent"}, MaxInline: 100_000}})
	lines := hostile.Result{Kind: "client", Fault: "line ends, quotes and forged records in what the ndjson sink writes"}
	type sent struct{ text, name string }
	var all []sent
	for i, text := range hostileTexts {
		up := testUpload(fmt.Sprint("report-", i))
		up.Peer, up.Method, up.Host, up.Path = text, text, text, text
		up.Header = http.Header{"User-Agent": {text}, text: {text}}
		if _, err := s.Store(t.Context(), up, strings.NewReader(text)); err != nil {
			t.Errorf("%.20q: %v", text, err)
			lines.Lost++
			continue
		}
		all = append(all, sent{text, up.Name})
	}
	for name, ok := range hostileNames {
		up := testUpload("report")
		up.Name = name
		if _, err := s.Store(t.Context(), up, strings.NewReader(name)); (err == nil) != ok {
			t.Errorf("name %.30q: %v", name, err)
			lines.Lost++
		} else if ok {
			all = append(all, sent{"", name})
		}
	}
	list := records(t, file) // fails at what is no JSON
	lines.Tries = len(hostileTexts) + len(hostileNames)
	lines.Leaked = max(len(list)-len(all), 0)
	lines.Lost += max(len(all)-len(list), 0)
	for i, rec := range list[:min(len(list), len(all))] {
		// JSON has no bytes that are not UTF-8.
		text := string([]rune(all[i].text))
		if rec["name"] != all[i].name {
			t.Errorf("line %d has the name %q", i, rec["name"])
			lines.Corrupt++
		}
		if text == "" {
			continue
		}
		for _, key := range []string{"peer", "method", "host", "path"} {
			if rec[key] != text {
				t.Errorf("line %d has the %s %.60q, not %.60q", i, key, rec[key], text)
				lines.Corrupt++
			}
		}
		if h, _ := rec["headers"].(map[string]any); len(h) != 1 || h["user-agent"] != text {
			t.Errorf("line %d has the headers %.100v", i, h)
			lines.Corrupt++
		}
		body, ok := rec["body"].(string)
		if b64, _ := rec["body_base64"].(string); !ok {
			b, err := base64.StdEncoding.DecodeString(b64)
			if err != nil {
				t.Error(err)
			}
			body = string(b)
		}
		if body != all[i].text {
			lines.Corrupt++
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.IndexFunc(raw, func(r rune) bool { return r < ' ' && r != '\n' }); i >= 0 {
		t.Errorf("a control character is in the file at %d", i)
		lines.Corrupt++
	}
	lines.Bound = fmt.Sprintf("%d uploads, %d lines, each valid JSON and as it came", len(all), len(list))
	lines.Report(t)
}
