package natssink

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

func TestParseURL(t *testing.T) {
	cfg, err := ParseURL("nats://us%40er:s%2Fecret@n1,n2:4333,[2001:db8::1]:4444/UPLOADS?subject=up.load&bucket=B&inline=1MiB&headers=content-type,X-Id&wait=2s&in-flight=7&create=1&replicas=3&max-age=1h&max-bytes=2GiB")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.String(), "nats://n1:4222,n2:4333,[2001:db8::1]:4444/UPLOADS"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if cfg.Subject != "up.load" || cfg.Bucket != "B" || cfg.Inline != 1<<20 || cfg.Wait != 2*time.Second || cfg.InFlight != 7 || cfg.MaxBytes != 2<<30 ||
		!cfg.Create || cfg.Replicas != 3 || cfg.MaxAge != time.Hour || strings.Join(cfg.Headers, ",") != "Content-Type,X-Id" {
		t.Errorf("parsed as %+v", cfg)
	}
	var o nats.Options
	if err := cfg.auth(&o); err != nil || o.User != "us@er" || o.Password != "s/ecret" {
		t.Errorf("user %q, password %q", o.User, o.Password)
	}
	cfg, err = ParseURL("tls://tok%3Aen@[::1]/A")
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.auth(&o); err != nil || o.Token != "tok:en" || !cfg.TLS || cfg.Servers[0] != "tls://[::1]:4222" || cfg.Subject != "A" || cfg.Bucket != "A" {
		t.Errorf("parsed as %+v with token %q", cfg, o.Token)
	}
}

// TestParseURLErrors has what a user gets wrong: the message names the key and
// the remedy, and never what may be a secret.
func TestParseURLErrors(t *testing.T) {
	for url, want := range map[string][]string{
		"nats:":                             {"nats://HOST:PORT/STREAM"},
		"http://h/S":                        {"http://h/S", "nats://HOST:PORT/STREAM"},
		"nats:///S":                         {"server", "HOST:PORT"},
		"nats://h":                          {"stream", "nats://HOST:PORT/STREAM"},
		"nats://h/":                         {"stream"},
		"nats://h/a.b":                      {"stream", "a.b"},
		"nats://h/a/b":                      {"stream", "a/b"},
		"nats://h:0/S":                      {"server", "HOST:PORT"},
		"nats://h:99999/S":                  {"server", "HOST:PORT"},
		"nats://h,/S":                       {"server"},
		"nats://a:b:c/S":                    {"server"},
		"nats://u:SECRET/1@h/S":             {"password", "%2F"},
		"nats://u:SECRET?1@h/S":             {"password", "%3F"},
		"nats://u:SECRET%zz@h/S":            {"password", "%25"},
		"nats://:SECRET@h/S":                {"user", "USER:PASSWORD"},
		"nats://SECRET@h/S?creds=f":         {"creds", "one of"},
		"nats://u:SECRET@h/S?retention=x":   {"retention", "no option", "max-age"},
		"nats://h/S?sweep=1m":               {"sweep=1m", "10m"},
		"nats://h/S?wait=1":                 {"wait=1", "5s"},
		"nats://h/S?wait=-1s":               {"wait=-1s"},
		"nats://h/S?inline=9MiB":            {"inline=9MiB", "8MiB"},
		"nats://h/S?inline=x":               {"inline=x"},
		"nats://h/S?inline=-1":              {"inline=-1"},
		"nats://h/S?max-bytes=99999999TiB":  {"max-bytes", "100GiB"},
		"nats://h/S?replicas=9":             {"replicas=9", "1 to 5"},
		"nats://h/S?storage=tape":           {"storage=tape", "file or memory"},
		"nats://h/S?create=maybe":           {"create=maybe", "1 or 0"},
		"nats://h/S?headers=a%20b":          {"headers", "a b"},
		"nats://h/S?subject=a.*":            {"subject=a.*", "wildcards"},
		"nats://h/S?subject=":               {"subject"},
		"nats://h/S?bucket=a.b":             {"bucket=a.b"},
		"nats://h/S?in-flight=0":            {"in-flight=0", "1 to"},
		"nats://h/S?wait=1s&wait=2s":        {"wait", "twice"},
		"nats://h/S?cert=f":                 {"cert=f", "key=FILE"},
		"nats://h/S?max-age=1m":             {"duplicates", "max-age=1m"},
		"nats://h/S?duplicates=10s":         {"duplicates=10s", "35s"},
		"nats://h/S?ack-wait=2m":            {"ack-wait=2m", "shorter"},
		"nats://u:SECRET@h/S?creds=%zz&x=1": {"options", "percent-encoded"},
	} {
		_, err := ParseURL(url)
		var bad *ConfigError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v, want a ConfigError", url, err)
			continue
		}
		for _, part := range append(want, bad.Remedy) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the message does not say %q: %v", url, part, err)
			}
		}
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the message has the secret: %v", url, err)
		}
		if strings.Contains(sink.Redact(url), "SECRET") && strings.Contains(url, "@") {
			t.Errorf("redacted to %s", sink.Redact(url))
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("nats://user:secret@n1,n2:4333/UPLOADS?subject=up&inline=1MiB")
	f.Add("tls://[::1]/A?x=%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		cfg, err := ParseURL(raw)
		if err != nil {
			return
		}
		again, err := ParseURL(cfg.String())
		if err != nil || again.String() != cfg.String() || again.Stream != cfg.Stream {
			t.Fatalf("%q is %q, which is read as %v, %v", raw, cfg, again, err)
		}
	})
}
