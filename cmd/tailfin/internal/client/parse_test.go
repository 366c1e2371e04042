package client

import (
	"net/http"
	"testing"
	"time"
)

func TestContentRange(t *testing.T) {
	for _, tc := range []struct {
		text string
		want contentRange
		ok   bool
	}{
		{"bytes 0-0/1", contentRange{0, 0, 1}, true},
		{"bytes 5-9/10", contentRange{5, 9, 10}, true},
		{"bytes 5-9/*", contentRange{5, 9, -1}, true},
		{"bytes 5-9/9", contentRange{}, false},
		{"bytes 9-5/10", contentRange{}, false},
		{"bytes */10", contentRange{}, false},
		{"bytes +5-9/10", contentRange{}, false},
		{"bytes -5-9/10", contentRange{}, false},
		{"bytes 5-9", contentRange{}, false},
		{"bytes 5-9223372036854775808/*", contentRange{}, false},
		{"items 5-9/10", contentRange{}, false},
		{"", contentRange{}, false},
	} {
		got, err := parseContentRange(tc.text)
		if (err == nil) != tc.ok || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.text, got, err)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-0/*")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseContentRange(text)
		if err == nil && (r.first < 0 || r.last < r.first || r.complete >= 0 && r.complete <= r.last) {
			t.Fatalf("%q: %+v", text, r)
		}
	})
}

func TestUploadFields(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "25": 25, "999999999999999": maxOffset, "7;a=b": 7,
		"": -1, "-1": -1, "1.0": -1, `"1"`: -1, "?1": -1, "1000000000000000": -1, "1, 2": -1} {
		n, ok := integer(text)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("integer %q: %d, want %d", text, n, want)
		}
	}
	for text, want := range map[string]bool{"?1": true, "?0": false, "1": false, "": false, "true": false} {
		if boolean(text) != want {
			t.Errorf("boolean %q", text)
		}
	}
	for text, want := range map[string]uploadLimits{
		"max-size=5":                              {maxSize: 5},
		"max-size=5, max-append-size=3, new=?1":   {5, 3},
		"max-size=5, max-append-size=\"3\"":       {},
		"max-size=(1 2)":                          {},
		"min-size=0":                              {},
		"max-size=-4":                             {},
		"max size":                                {},
		"max-append-size=3, max-age=10, min-size": {maxAppend: 3},
	} {
		if got := parseLimits(text); got != want {
			t.Errorf("limits %q: %+v, want %+v", text, got, want)
		}
	}
}

// FuzzAnswerFields: what a server says of an upload is a number within bounds, or nothing.
func FuzzAnswerFields(f *testing.F) {
	for _, text := range []string{"25", "-1", "?1", "max-size=5, max-append-size=3", "max-size=-4", "1, 2", "99999999999999999999", "Thu, 26 Nov 2026 00:00:00 GMT", `{"sha256":"00"}`} {
		f.Add(text)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if n, ok := integer(text); ok && (n < 0 || n > maxOffset) {
			t.Fatalf("integer %q: %d", text, n)
		}
		if l := parseLimits(text); l.maxSize < 0 || l.maxAppend < 0 {
			t.Fatalf("limits %q: %+v", text, l)
		}
		if d := retryAfter(text, now); d < 0 || d > maxRetryAfter {
			t.Fatalf("retry after %q: %v", text, d)
		}
		_ = boolean(text)
		for _, r := range printable(text) {
			if r == 0x1b || r == 0x9b || r == '\r' || r == 0x7f {
				t.Fatalf("%q is printed as %q", text, printable(text))
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "99999999": maxRetryAfter, "soon": 0,
		now.Add(7 * time.Second).Format(http.TimeFormat):  7 * time.Second,
		now.Add(-7 * time.Second).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
