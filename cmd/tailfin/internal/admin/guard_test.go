package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// TestHostileHosts has pages elsewhere ask by names of their own that lead here, by
// frames and scripts, and by methods that would change something.
func TestHostileHosts(t *testing.T) {
	_, base := start(t, Options{Hosts: []string{"metrics.example.net"}})
	c := client(t)
	hosts := hostile.Result{Kind: "client", Fault: "DNS rebinding, requests of other sites' pages and other methods at the admin address"}
	refused := 0
	for _, tt := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"plain", "GET", "/healthz", nil, 200},
		{"head", "HEAD", "/healthz", nil, 200},
		{"localhost", "GET", "/healthz", []string{"Host", "localhost:9433"}, 200},
		{"localhost with a dot, in capitals", "GET", "/healthz", []string{"Host", "LocalHost."}, 200},
		{"IPv4", "GET", "/healthz", []string{"Host", "192.0.2.1"}, 200},
		{"IPv6", "GET", "/healthz", []string{"Host", "[::1]:9433"}, 200},
		{"IPv6 without port", "GET", "/healthz", []string{"Host", "[::1]"}, 200},
		{"name of ours", "GET", "/healthz", []string{"Host", "metrics.example.net:80"}, 200},
		{"rebound name", "GET", "/healthz", []string{"Host", "evil.example"}, 421},
		{"rebound name, page", "GET", "/", []string{"Host", "evil.example:9433"}, 421},
		{"rebound name that looks like ours", "GET", "/metrics", []string{"Host", "localhost.evil.example"}, 421},
		{"rebound name that ends like ours", "GET", "/metrics", []string{"Host", "evil-metrics.example.net"}, 421},
		{"rebound name that begins like ours", "GET", "/metrics", []string{"Host", "metrics.example.net.evil.example"}, 421},
		{"rebound name of numbers", "GET", "/metrics", []string{"Host", "127.0.0.1.evil.example"}, 421},
		{"rebound name with a port of ours", "GET", "/status.json", []string{"Host", "evil.example:127"}, 421},
		{"an address that is none", "GET", "/metrics", []string{"Host", "0x7f000001"}, 421},
		{"an address that is short", "GET", "/metrics", []string{"Host", "127.1"}, 421},
		{"rebound name, profile", "GET", "/debug/pprof/heap", []string{"Host", "evil.example"}, 421},
		{"rebound name, configuration", "GET", "/debug/config", []string{"Host", "evil.example", "X-Forwarded-Host", "localhost"}, 421},
		{"put", "PUT", "/", []string{"Origin", "http://evil.example"}, 405},
		{"patch", "PATCH", "/", nil, 405},
		{"trace", "TRACE", "/", nil, 405},
		{"post by a form", "POST", "/debug/pprof/symbol", []string{"Origin", "http://evil.example", "Content-Type", "application/x-www-form-urlencoded"}, 405},
		{"method of no one's", "PROPFIND", "/", nil, 405},
		{"override of the method", "GET", "/healthz", []string{"X-Http-Method-Override", "DELETE"}, 200},
		{"out of the folder", "GET", "/../../etc/passwd", nil, 404},
		{"out of the folder, encoded", "GET", "/..%2f..%2fetc%2fpasswd", nil, 404},
		{"embedded elsewhere, page", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "iframe"}, 403},
		{"post", "POST", "/healthz", nil, 405},
		{"delete", "DELETE", "/", nil, 405},
		{"options", "OPTIONS", "/", nil, 405},
		{"embedded elsewhere", "GET", "/debug/pprof/profile?seconds=1", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"fetched by another port", "GET", "/status.json", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"followed link", "GET", "/healthz", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"followed link, page", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"frame elsewhere", "GET", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"frame elsewhere that has us traced", "GET", "/debug/pprof/trace?seconds=60", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"link that has us traced", "GET", "/debug/pprof/trace?seconds=60", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403},
		{"own script", "GET", "/healthz", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, 200},
		{"nothing", "GET", "/nothing", nil, 404},
		{"no configuration", "GET", "/debug/config", nil, 404},
		{"profile", "GET", "/debug/pprof/goroutine?debug=1", nil, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, c, tt.method, base+tt.path, tt.header...)
			if resp.StatusCode != tt.status {
				t.Errorf("%s: %.200s; want %d", resp.Status, body, tt.status)
			}
			csp := resp.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "script-src 'unsafe") {
				t.Errorf("CSP is %q", csp)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
			hosts.Tries++
			switch {
			case resp.Header.Get("Access-Control-Allow-Origin") != "":
				t.Error("scripts of other sites may read it")
				hosts.Corrupt++
			case resp.StatusCode == http.StatusOK && tt.status != http.StatusOK:
				hosts.Corrupt++
			case resp.StatusCode != http.StatusOK && tt.status == http.StatusOK:
				hosts.Lost++
			case tt.status != http.StatusOK:
				refused++
			}
		})
	}
	hosts.Bound = fmt.Sprintf("%d answered, %d refused (421, 405, 403); nothing can be changed", hosts.Tries-refused, refused)
	hosts.Report(t)
}

func TestHeaderTooLarge(t *testing.T) {
	_, base := start(t, Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X", strings.Repeat("x", 64<<10))
	resp, err := client(t).Do(req)
	if err != nil {
		return // the server has closed before all of it was sent
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of header: %s", resp.Status)
	}
}

// TestOldClientWithoutHost: health checks of HTTP/1.0 send none, and no browser
// is among them.
func TestOldClientWithoutHost(t *testing.T) {
	_, base := start(t, Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 ") {
		t.Errorf("%q, %v", answer, err)
	}
}

// openListener says that other hosts reach it.
type openListener struct{ net.Listener }

func (openListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 9433} }

func TestDebugIsLocal(t *testing.T) {
	for _, exposed := range []bool{false, true} {
		a, err := New(Options{Log: quiet, ExposeDebug: exposed, Config: func() any { return "x" }})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- a.Serve(openListener{ln}) }()
		want := http.StatusForbidden
		if exposed {
			want = http.StatusOK
		}
		c := client(t)
		for _, path := range []string{"/debug/pprof/", "/debug/config", "/debug/pprof/heap"} {
			if resp, _ := get(t, c, "http://"+ln.Addr().String()+path); resp.StatusCode != want {
				t.Errorf("exposed %v: %s is %s", exposed, path, resp.Status)
			}
		}
		if resp, _ := get(t, c, "http://"+ln.Addr().String()+"/healthz"); resp.StatusCode != http.StatusOK {
			t.Errorf("healthz is %s", resp.Status)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	for _, address := range []string{"unix:" + path, path} {
		ln, err := Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
			t.Errorf("mode: %v, %v", info, err)
		}
		if _, err := Listen(address); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second listener: %v", err)
		}
		a, err := New(Options{Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- a.Serve(ln) }()
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}}
		if resp, body := get(t, &http.Client{Transport: tr, Timeout: patience}, "http://localhost/debug/pprof/heap?debug=1"); resp.StatusCode != http.StatusOK || body == "" {
			t.Errorf("%s %q", resp.Status, body)
		}
		tr.CloseIdleConnections()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}

	// What a killed process leaves behind is replaced.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
}

func TestListenErrors(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Listen(taken.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	for address, want := range map[string]string{
		"nonsense":                "neither HOST:PORT nor the path",
		"unix:":                   "names no path",
		"unix:/no/such/dir/sock":  "name a path in a folder that exists",
		"192.0.2.1:9433":          "give a free TCP port of this machine",
		"127.0.0.1:notaport99999": "give a free TCP port",
	} {
		ln, err := Listen(address)
		if err == nil {
			_ = ln.Close()
			t.Errorf("%s can be listened on", address)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", address, err, want)
		}
	}
}
