package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tailfin.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrecedence sets options in all three places.
func TestPrecedence(t *testing.T) {
	path := write(t, `
listen: 127.0.0.1:1
max-body: 1MiB
grace: 3s
log-level: warn
strict: true
cert: [a.pem, b.pem]
key: [a.key, b.key]
`)
	t.Setenv("TAILFIN_LISTEN", "127.0.0.1:2")
	t.Setenv("TAILFIN_GRACE", "4s")
	t.Setenv("TAILFIN_CONFIG", path)
	l, err := Parse([]string{"--listen", "127.0.0.1:3"})
	if err != nil {
		t.Fatal(err)
	}
	if l.Listen != "127.0.0.1:3" || l.Grace != 4*time.Second || l.MaxBody != 1<<20 || l.LogLevel != slog.LevelWarn || !l.Strict {
		t.Errorf("flag, environment and file were mixed up: %+v", l.Serve)
	}
	if diff := cmp.Diff([]string{"a.pem", "b.pem"}, l.Cert); diff != "" {
		t.Error(diff)
	}
	if l.MaxStreams != 100 || l.Sink != "dir:./received" {
		t.Errorf("defaults are gone: %+v", l.Serve)
	}
}

// TestValues has YAML that means numbers and dates where a text belongs: it is taken as
// it is written, as a flag would be.
func TestValues(t *testing.T) {
	t.Setenv("TAILFIN_GRACE", "5s")
	l, err := Parse([]string{"--config", write(t, `
max-body: 1048576
max-conns: 0x10
record-header: [5, "a,b"]
acme-domain: 2026-01-01
acme-email: 5@a.example
acme-agree-terms: yes
acme-profile: 2026-01-01
grace: 9s
`)})
	if err != nil {
		t.Fatal(err)
	}
	if l.MaxBody != 1<<20 || l.MaxConns != 16 || l.ACMEProfile != "2026-01-01" || !l.ACMEAgreeTerms || l.Grace != 5*time.Second {
		t.Errorf("%+v", l.Serve)
	}
	if diff := cmp.Diff([]string{"5", "a,b"}, l.RecordHeader); diff != "" {
		t.Error(diff)
	}
}

// TestErrors demands that every error names where a value was set, the key, the
// value, and what to do.
func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		file string
		args []string
		env  [2]string
		want []string
	}{
		{name: "unknown key", file: "max-bdy: 3\n", want: []string{"tailfin.yaml:1: max-bdy: 3", "no such key", "max-body"}},
		{name: "underscore", file: "\nmax_body: 3\n", want: []string{"tailfin.yaml:2: max_body: 3", "is it max-body?"}},
		{name: "bad size", file: "max-body: 3 bananas\n", want: []string{"tailfin.yaml:1: max-body: 3 bananas", "64KiB"}},
		{name: "bad duration", file: "grace: soon\n", want: []string{"tailfin.yaml:1: grace: soon", "duration"}},
		{name: "bad enum", file: "drain: maybe\n", want: []string{"tailfin.yaml:1: drain: maybe", "on|off"}},
		{name: "list for one", file: "listen: [a, b]\n", want: []string{"tailfin.yaml:1: listen: a,b", "single value"}},
		{name: "map for one", file: "listen:\n  host: a\n", want: []string{"tailfin.yaml:1: listen", "single value"}},
		{name: "no value", file: "listen:\n", want: []string{"tailfin.yaml:1: listen", "missing"}},
		{name: "twice", file: "grace: 1s\ngrace: 2s\n", want: []string{"tailfin.yaml", "grace"}},
		{name: "names a file", file: "config: x\n", want: []string{"tailfin.yaml:1: config: x", "another"}},
		{name: "tag", file: "listen: !!binary MTI3LjAuMC4xOjE=\n", want: []string{"tailfin.yaml:1: listen: MTI3", "!!binary", "leave the tag out"}},
		{name: "alias for a key", file: "sink: &listen dir:x\n*listen : 127.0.0.1:1\n", want: []string{"tailfin.yaml:2: listen", "no such key"}},
		{name: "merged keys", file: "<<: {listen: a}\n", want: []string{"tailfin.yaml:1: <<", "no such key"}},
		{name: "long key", file: strings.Repeat("l", 900) + ": 1\n", want: []string{"tailfin.yaml:1: lll", "…: 1: there is no such key"}},
		{name: "infinite rate", file: "handshake-rate: inf\n", want: []string{"tailfin.yaml:1: handshake-rate: +Inf", "no rate"}},
		{name: "no YAML", file: "listen: [\n", want: []string{"--config", "tailfin.yaml", "config example"}},
		{name: "no mapping", file: "- a\n", want: []string{"tailfin.yaml:1", "keys and values"}},
		{name: "two at once", file: "max-bdy: 3\ngrace: soon\n", want: []string{"tailfin.yaml:1", "tailfin.yaml:2"}},
		{name: "meaning, in the file", file: "grace: 5s\nlisten: nowhere\n", want: []string{"tailfin.yaml:2: listen: nowhere", "HOST:PORT"}},
		{name: "meaning, in the environment", env: [2]string{"TAILFIN_LISTEN", "nowhere"}, want: []string{"TAILFIN_LISTEN=nowhere", "HOST:PORT"}},
		{name: "meaning, by flag", args: []string{"--listen", "nowhere"}, want: []string{"--listen nowhere", "HOST:PORT"}},
		{name: "form, in the environment", env: [2]string{"TAILFIN_GRACE", "soon"}, want: []string{"TAILFIN_GRACE", "soon"}},
		{name: "sink", args: []string{"--sink", "ftp://x"}, want: []string{"--sink ftp://x", "dir:DIR"}},
		{name: "cert without key", args: []string{"--cert", "c.pem"}, want: []string{"--cert c.pem", "--key"}},
		{name: "terms", args: []string{"--acme-domain", "a.example"}, want: []string{"--acme-agree-terms"}},
		{name: "negative", args: []string{"--body-timeout=-1s"}, want: []string{"--body-timeout -1s", "less than 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				args = append([]string{"--config", write(t, tc.file)}, args...)
			}
			if tc.env[0] != "" {
				t.Setenv(tc.env[0], tc.env[1])
			}
			_, err := Parse(args)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tc.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not have %q", err, part)
				}
			}
			var typed *Error
			if tc.env[0] != "TAILFIN_GRACE" && !errors.As(err, &typed) {
				t.Errorf("%T is no Error", err)
			}
		})
	}
}

// TestExample takes the printed example with every key put into effect.
func TestExample(t *testing.T) {
	example, err := Example()
	if err != nil {
		t.Fatal(err)
	}
	var live []string
	for line := range strings.Lines(string(example)) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "##") {
			line = line[1:]
		}
		live = append(live, line)
	}
	_, keys, err := ParseFile(write(t, strings.Join(live, "")))
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(live, ""))
	}
	if want := len(Options()) - 1; keys != want { // all but --config
		t.Errorf("%d keys, want %d", keys, want)
	}
	if _, keys, err := ParseFile(write(t, string(example))); err != nil || keys != 0 {
		t.Errorf("as printed: %d keys, %v", keys, err)
	}
}

// TestOptionNames has kong's names of flags beside ours.
func TestOptionNames(t *testing.T) {
	_, flags, err := newParser(&app{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Options() {
		if flags[o] == nil {
			t.Errorf("there is no flag --%s", o)
		}
	}
	if len(flags) != len(Options()) {
		t.Errorf("%d flags and %d options", len(flags), len(Options()))
	}
}

func TestReload(t *testing.T) {
	from, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := Parse([]string{"--max-body", "1KiB", "--listen", ":1"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{{"listen", "127.0.0.1:4433", ":1", false}, {"max-body", "16GiB", "1KiB", true}}
	if diff := cmp.Diff(want, from.Diff(&to.Serve)); diff != "" {
		t.Error(diff)
	}
	from.Adopt(&to.Serve)
	if from.MaxBody != 1<<10 || from.Listen != "127.0.0.1:4433" {
		t.Errorf("adopted %v and %s", from.MaxBody, from.Listen)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "17": 17, "1k": 1000, "64KiB": 64 << 10, "64 kib": 64 << 10, "16GiB": 16 << 30, "3MB": 3e6, "1Ti": 1 << 40,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		var again Size
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%q: written as %q, which is %d, %v", text, s, again, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5G", "9999999999T", "1 banana"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
}

// TestCredentials must not show the password of a sink.
func TestCredentials(t *testing.T) {
	l, err := Parse([]string{"--sink", "nats://me:secret@127.0.0.1:4222/UPLOADS"})
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Effective()["sink"].(string); strings.Contains(s, "secret") || !strings.Contains(s, "UPLOADS") {
		t.Errorf("shown as %s", s)
	}
	if !slices.Contains(Options(), "sink") {
		t.Error("no such option")
	}
}
