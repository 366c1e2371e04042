package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"gopkg.in/yaml.v3"
)

// fuzzed is the name that errors have of the file.
const fuzzed = "tailfin.yaml"

// FuzzConfig: a file is taken as it says, or refused with the place and the key that are
// wrong. What is taken is shown as a file that means the same.
func FuzzConfig(f *testing.F) {
	for _, o := range Options() {
		if _, set := os.LookupEnv(EnvName(o)); set {
			f.Skipf("the environment has %s, which outdoes files", EnvName(o))
		}
	}
	try, err := newTrial()
	if err != nil {
		f.Fatal(err)
	}
	reader, err := newFileReader()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("listen: 127.0.0.1:1\nmax-body: 1048576\ngrace: 3s\nlog-level: warn\nstrict: true\ncert: [a.pem, 'b,c.pem']\nkey: [a.key, b.key]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseFile(fuzzed, []byte(text), Origin{Flag: true}, try)
		if err != nil {
			wantPlaces(t, text, err)
			return
		}
		l, keys, err := reader.read(c)
		if err != nil {
			wantPlaces(t, text, err)
			return
		}
		wantKeys(t, text, l, keys)
		shown, err := l.YAML()
		if err != nil {
			t.Fatalf("%q cannot be shown: %v", text, err)
		}
		again := new(Loaded)
		if c, err = parseFile(fuzzed, shown, Origin{Flag: true}, try); err == nil {
			again, _, err = reader.read(c)
		}
		if err != nil {
			t.Fatalf("%q is shown as what is refused: %v\n%s", text, err, shown)
		}
		if diff := cmp.Diff(l.Effective(), again.Effective(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q is shown as another one:\n%s", text, diff)
		}
	})
}

// wantPlaces demands of each error that it says where, what, and what to do.
func wantPlaces(t *testing.T, text string, err error) {
	t.Helper()
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	lines := 1 // of YAML 1.1
	for _, r := range text {
		if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
			lines++
		}
	}
	for _, err := range list {
		var typed *Error
		if !errors.As(err, &typed) {
			t.Fatalf("%q: %T is no Error: %v", text, err, err)
		}
		if typed.Option == "" && typed.Origin.Line == 0 || len(err.Error()) > 4000 {
			t.Fatalf("%q: neither line nor key, or far too much: %.300v", text, err)
		}
		if line := typed.Origin.Line; line > 0 && !strings.Contains(err.Error(), fmt.Sprintf("%s:%d", fuzzed, line)) || line > lines {
			t.Fatalf("%q: line %d is not said, or there is none: %v", text, line, err)
		}
		if typed.Remedy == "" {
			t.Fatalf("%q: no remedy: %v", text, err)
		}
	}
	if len(list) > maxErrors+2*len(Options()) {
		t.Fatalf("%q: %d errors", text, len(list))
	}
}

// wantKeys compares what was taken with what another reader of YAML finds.
func wantKeys(t *testing.T, text string, l *Loaded, keys int) {
	t.Helper()
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%q is taken, and no YAML: %v", text, err)
	}
	if len(doc) != keys {
		t.Fatalf("%q has the keys %q, and %d were taken", text, slices.Sorted(maps.Keys(doc)), keys)
	}
	v := reflect.ValueOf(l.Serve)
	for i, field := range reflect.VisibleFields(v.Type()) {
		node, set := doc[optionOf(field)]
		if set && field.Type.Kind() == reflect.String && v.Field(i).String() != node.Value {
			t.Fatalf("%q: %s is %q", text, optionOf(field), v.Field(i))
		}
		delete(doc, optionOf(field))
	}
	if len(doc) != 0 {
		t.Fatalf("%q: unknown keys %q were taken", text, slices.Sorted(maps.Keys(doc)))
	}
}

// FuzzSize: a size is what it says, and written it says the same.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"0", "17", "64KiB", "16 gib", "9223372036854775807", "9223372036854775808", "8388608TiB", "-1", "1.5G", "1e3", "٣", "", " 5 "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if err := s.UnmarshalText([]byte(text)); err != nil {
			return
		}
		if s < 0 {
			t.Fatalf("%q is %d", text, s)
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Fatalf("%q is %s, which is %d and not %d, %v", text, s, again, s, err)
		}
	})
}
