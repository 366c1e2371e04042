//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
)

// A slowServer sends half of a body, and the other half once it is told to.
type slowServer struct {
	url  string
	body []byte
	more chan struct{} // to be closed
}

func serveSlowly(t *testing.T, size int) *slowServer {
	t.Helper()
	cert, err := devcert.New()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowServer{url: "https://" + conn.LocalAddr().String() + "/report", body: bytes.Repeat([]byte("tailfin "), size/8), more: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	server := &tailfin.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			if n, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
				from, _ := strconv.Atoi(strings.TrimSuffix(n, "-"))
				w.Header().Set("Content-Range", "bytes "+n+strconv.Itoa(len(s.body)-1)+"/"+strconv.Itoa(len(s.body)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(s.body[from:])
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
			_, _ = w.Write(s.body[:len(s.body)/2])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-s.more:
				_, _ = w.Write(s.body[len(s.body)/2:])
			case <-ctx.Done():
			}
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(conn)
	}()
	t.Cleanup(func() {
		stop()
		_ = server.Close()
		<-served
		_ = conn.Close()
	})
	return s
}

// colour is an escape sequence that a terminal colours text by (SGR).
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestProgress(t *testing.T) {
	for _, tc := range []struct {
		name    string
		columns int
		half    string // what a terminal shows once half has come
		bar     bool
		args    []string
	}{
		{name: "wide", columns: 100, half: "4.00 MiB / 8.00 MiB [", bar: true},
		{name: "narrow", columns: 30, half: "50% "},
		{name: "several", columns: 100, half: "0 of 3  12.00 MiB / 24.00 MiB [", bar: true, args: []string{"--count", "3", "--parallel", "3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serveSlowly(t, 8<<20)
			out := filepath.Join(t.TempDir(), "copy")
			term := onTerminal(t, tc.columns, nil, append([]string{"get", s.url, "--insecure", "-o", out}, tc.args...)...)
			term.waitFor(t, tc.half)
			close(s.more)
			code, output := term.wait(t)
			if code != exitOK {
				t.Fatalf("exit %d: %q", code, output)
			}
			drawn := strings.Split(output, "\x1b[K")
			for _, line := range drawn {
				line, _, _ = strings.Cut(strings.TrimSuffix(line, "\r"), "\n")
				if n := len([]rune(line)); n >= tc.columns && !strings.Contains(line, " ms") && !strings.Contains(line, "requests") {
					t.Errorf("a line of %d characters on %d columns: %q", n, tc.columns, line)
				}
			}
			if got := strings.Contains(output, "ETA"); got != tc.bar {
				t.Errorf("with ETA: %t", got)
			}
			if colour.MatchString(output) {
				t.Error("it is coloured")
			}
			left := strings.Join(screen(output), "\n")
			if strings.Contains(left, "ETA") || strings.Contains(left, "50%") || !strings.Contains(left, "MiB") {
				t.Errorf("left on the screen: %q", left)
			}
			if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, s.body) {
				t.Errorf("%d other bytes, %v", len(b), err)
			}
		})
	}
}

// TestNoProgress has the terminals and flags with which nothing is drawn.
func TestNoProgress(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  []string
		args []string
	}{
		{name: "dumb", env: []string{"TERM=dumb"}},
		{name: "quiet", args: []string{"--quiet"}},
		{name: "json", args: []string{"--json"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serveSlowly(t, 8<<20)
			path := filepath.Join(t.TempDir(), "copy")
			term := onTerminal(t, 80, tc.env, append([]string{"get", s.url, "--insecure", "-o", path}, tc.args...)...)
			waitForSize(t, path+".part", 4<<20)
			close(s.more)
			if code, output := term.wait(t); code != exitOK || output != "" {
				t.Fatalf("exit %d: %q", code, output)
			}
		})
	}
}

// TestCtrlC interrupts a download from the keyboard, and goes on with it.
func TestCtrlC(t *testing.T) {
	s := serveSlowly(t, 8<<20)
	path := filepath.Join(t.TempDir(), "copy")
	args := []string{"get", s.url, "--insecure", "-o", path, "-C"}
	term := onTerminal(t, 100, nil, args...)
	term.waitFor(t, "4.00 MiB / 8.00 MiB")
	if _, err := term.master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	code, output := term.wait(t)
	left := strings.Join(screen(output), "\n")
	if code != exitFailed || strings.Contains(left, "ETA") || !strings.Contains(left, "copy.part keeps 4194304 bytes; the same command with -C goes on there") {
		t.Fatalf("exit %d, left on the screen: %q", code, left)
	}
	r := runTailfin(t, append(args, "--json")...)
	if b, err := os.ReadFile(path); r.code != exitOK || err != nil || !bytes.Equal(b, s.body) || !strings.Contains(r.stdout, `"resumed":4194304`) {
		t.Fatalf("%+v: %d bytes, %v", r, len(b), err)
	}
}
