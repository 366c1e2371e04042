package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// hostilePaths are values of :path, as they are on the wire.
var hostilePaths = []string{
	"/../out", "/..%2fout", "/..%2Fout", "/%2e%2e/out", "/%2e%2e%2fout", "/..%5cout", "/..\\out", "/%5c..%5cout", "/a%2f..%2f..%2fout", "/a/../../out",
	"/%252e%252e%252fout", "/%25252e%25252e%25252fout", "//out", "///etc/passwd", "/%2fetc%2fpasswd", "/%2f%2fout", "/./out", "/a/./b", "/a/", "/a%2f",
	"/.incoming", "/%2eincoming", "/.incoming/x", "/.incoming%2f..%2f..%2fout", "/.uploads", "/.uploads/", "/.uploads/../../out", "/.uploads/..%2f..%2fout", "/.uploads/%2e%2e/out",
	"/.uploads/00000000000000000000000000000000.json", "/.uploads/%00", "/.htaccess", "/...",
	"/a%00b", "/a%00.txt", "/%00", "/a%0d%0aX-Evil:%201", "/a%0ab", "/a%1b[31m", "/a%7f", "/a%c2%9bb", "/%e2%80%aegnp.exe", "/a%e2%80%a8b",
	"/%c0%ae%c0%ae/out", "/%c0%ae%c0%ae%c0%afout", "/a%ff", "/a%ed%a0%80", "/\xff", "/a\xc0\xafb", "/%e2%80%a4%e2%80%a4/out", "/%ef%bc%8e%ef%bc%8e%ef%bc%8fout", "/a%e2%88%95b",
	"/bytes/../out", "/bytes/..%2fout", "/echo/../out", "/a;b", "/..;/out", "/a?name=../out", "/?/../out", "/#/../out", "/a#b", "/a%23b", "/a%3fb",
	"/ out", "/a b", "/a\tb", "/a\r\nb", "/a\x00b", "/%", "/%z", "/%zz", "/%u002e%u002e/out", "/%2", "", "out", "*", "../out", "https://evil.example/out", "//evil.example/out", "?", "#",
	"/CON", "/~root", "/$HOME", "/$(id)", "/`id`", "/*", "/>", "/-rf", "/lost+found", "/LOST+FOUND", "/C:%5cout", "/a:b",
	"/" + strings.Repeat("a", 200), "/" + strings.Repeat("a", 201), "/" + strings.Repeat("%61", 200), "/" + strings.Repeat("a", 60_000),
	"/" + strings.Repeat("../", 5000) + "out", "/" + strings.Repeat("%2e%2e%2f", 5000) + "out", "/" + strings.Repeat("a/", 10_000),
}

// nameOfPath is the name that a path stands for, empty if there is none: decoded once,
// and one element.
func nameOfPath(path string) string {
	path, _, _ = strings.Cut(path, "?")
	rest, ok := strings.CutPrefix(path, "/")
	name, err := url.PathUnescape(rest)
	if !ok || err != nil || sink.CheckName(name) != nil || strings.ContainsAny(path, " \t\r\n\x00") {
		return ""
	}
	return name
}

// contents are the files below a folder.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		list[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// fieldClient redials where a request has cost the connection.
type fieldClient struct {
	addr string
	*peer.FieldClient
	dials int
}

func (c *fieldClient) do(t *testing.T, head []h3frame.Field, body []byte) (peer.FieldAnswer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if c.FieldClient == nil || c.Closed() {
		if c.FieldClient != nil {
			c.Close()
		}
		var err error
		if c.FieldClient, err = peer.DialFields(ctx, c.addr); err != nil {
			t.Fatal(err)
		}
		c.dials++
		t.Cleanup(c.Close)
	}
	return c.Do(ctx, head, body, nil)
}

// requestTo is a header section, with further fields in pairs.
func requestTo(method, path string, fields ...string) []h3frame.Field {
	list := []h3frame.Field{{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "upload.example"}, {Name: ":path", Value: path}}
	for i := 0; i+1 < len(fields); i += 2 {
		list = append(list, h3frame.Field{Name: fields[i], Value: fields[i+1]})
	}
	return list
}

// TestHostilePaths has a client of its own making send each path, decoded and not: what
// it stores is below the folder, under the name that the receipt says.
func TestHostilePaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "out"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(dir, "in")
	d, err := sink.OpenDir(in, sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := os.Mkdir(filepath.Join(in, "lost+found"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := &Handler{Sink: d, MaxBody: 1 << 20, Metrics: NewMetrics(nil)}
	base, _ := quicServer(t, h)
	client := &fieldClient{addr: strings.TrimPrefix(base, "https://")}
	paths := hostile.Result{Kind: "client", Fault: "path traversal and odd names over HTTP/3, in 4 methods"}
	want := map[string]string{filepath.Join(dir, "out"): "secret"}
	stored := 0
	for _, path := range hostilePaths {
		for _, method := range []string{http.MethodGet, http.MethodPut, "MOVE", http.MethodPatch} {
			paths.Tries++
			body := []byte(nil)
			if method != http.MethodGet {
				body = []byte(path)
			}
			a, err := client.do(t, requestTo(method, path, "destination", "/../out"), body)
			name := nameOfPath(path)
			if method == http.MethodPut && name != "" && name != "lost+found" {
				var receipt sink.Receipt
				if err != nil || a.Status != http.StatusCreated || json.Unmarshal(a.Body, &receipt) != nil || receipt.Name != name {
					t.Errorf("PUT %.60q: %d %.100q, %v, want %.60q stored", path, a.Status, a.Body, err, name)
					paths.Lost++
					continue
				}
				want[filepath.Join(in, name)] = path
				stored++
				continue
			}
			switch {
			case err == nil && (a.Status == http.StatusCreated || a.Status >= 500 || strings.Contains(string(a.Body), "secret")):
				t.Errorf("%s %.60q: %d %.100q", method, path, a.Status, a.Body)
				paths.Corrupt++
			case err == nil && a.Status == http.StatusOK && string(a.Body) != want[filepath.Join(in, name)]:
				t.Errorf("%s %.60q: %.100q", method, path, a.Body)
				paths.Corrupt++
			}
		}
	}
	got := contents(t, dir)
	for path, text := range want {
		if got[path] != text {
			t.Errorf("%.60q has %.60q", path, got[path])
			paths.Corrupt++
		}
	}
	maps.DeleteFunc(got, func(path, _ string) bool { _, known := want[path]; return known })
	paths.Leaked = len(got)
	for path := range got {
		t.Errorf("there is %q now", path)
	}
	paths.Bound = fmt.Sprintf("%d stored as their receipts say, tailfin_sink_stores_total{result=\"bad_name\"} %.0f, the rest 4xx or malformed; %d connections",
		stored, testutil.ToFloat64(h.Metrics.stores.WithLabelValues(resultBadName)), client.dials)
	paths.Report(t)
}

// TestHostileUploadFields lies about offsets and lengths of an upload that can be continued.
func TestHostileUploadFields(t *testing.T) {
	h, d := newUploads(t, 1000)
	base, _ := quicServer(t, h)
	client := &fieldClient{addr: strings.TrimPrefix(base, "https://")}
	must := func(a peer.FieldAnswer, err error) peer.FieldAnswer {
		t.Helper()
		if err != nil || a.Status >= 300 {
			t.Fatalf("%+v, %v", a, err)
		}
		return a
	}
	at := must(client.do(t, requestTo("PUT", "/report", "upload-complete", "?0"), []byte("hello"))).Header.Get("Location")
	lies := hostile.Result{Kind: "client", Fault: "offsets, lengths and flags of a resumable upload that are no numbers, negative or 2^63"}
	numbers := []string{"", "-1", "-0", "4", "6", "999999999999999", "9999999999999999", "9223372036854775807", "9223372036854775808", "18446744073709551621",
		"-9223372036854775808", "5.0", "5e0", "0x5", "+5", "05,5", "5, 5", "5 5", "\"5\"", "?1", ":aGk=:", "(5)", "٥", "NaN", "null", strings.Repeat("5", 20_000)}
	try := func(fields ...string) {
		t.Helper()
		lies.Tries++
		a, err := client.do(t, requestTo("PATCH", at, append([]string{"content-type", "application/partial-upload"}, fields...)...), []byte("evil"))
		if err == nil && (a.Status < 400 || a.Status >= 500) {
			t.Errorf("%.100q: %d %s", fields, a.Status, a.Body)
			lies.Corrupt++
		}
	}
	for _, n := range numbers {
		try("upload-complete", "?0", "upload-offset", n)
		try("upload-complete", "?1", "upload-offset", n)
		try("upload-complete", "?0", "upload-offset", "5", "upload-offset", n)
	}
	for _, n := range []string{"0", "4", "8", "1001", "999999999999999"} {
		try("upload-complete", "?1", "upload-offset", "5", "upload-length", n, "content-length", "4")
	}
	for _, n := range []string{"9223372036854775807", "9223372036854775806", "9223372036854775803", "9223372036854775808", "-1", "4, 5", "4x"} {
		try("upload-complete", "?0", "upload-offset", "5", "content-length", n)
		try("upload-complete", "?1", "upload-offset", "5", "content-length", n)
	}
	for _, flag := range []string{"", "?2", "1", "true", "?1?1", "yes", "?1, ?1", "\"?1\""} {
		try("upload-complete", flag, "upload-offset", "5")
	}
	state, err := client.do(t, requestTo("HEAD", at), nil)
	if err != nil || state.Header.Get("Upload-Offset") != "5" || state.Header.Get("Upload-Complete") != "?0" {
		t.Errorf("the upload is %+v, %v", state, err)
		lies.Lost++
	}
	must(client.do(t, requestTo("PATCH", at, "content-type", "application/partial-upload", "upload-complete", "?1", "upload-offset", "5"), []byte(" world")))
	obj, err := d.Open(t.Context(), "report")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	var text [100]byte
	if n, _ := obj.Read(text[:]); string(text[:n]) != "hello world" {
		t.Errorf("%q is stored", text[:n])
		lies.Corrupt++
	}
	lies.Bound = fmt.Sprintf("all 4xx or malformed, the upload as it was and then completed; tailfin_sink_stores_total{result=\"conflict\"} %.0f",
		testutil.ToFloat64(h.Metrics.stores.WithLabelValues(resultConflict)))
	lies.Report(t)
}
