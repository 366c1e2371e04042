package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// toolPath builds a tool of go.mod and has where it is.
func toolPath(name string) (string, error) {
	out, err := exec.Command("go", "tool", "-n", name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go tool -n %s: %w\n%s", name, err, out)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n")) // downloads are told before it
	return string(lines[len(lines)-1]), nil
}

// start runs a tool until stop is called or the test ends.
func start(t *testing.T, env []string, name string, args ...string) (out *logBuffer, stop func()) {
	t.Helper()
	path, err := toolPath(name)
	if err != nil {
		t.Fatal(err)
	}
	out = &logBuffer{}
	cmd := exec.Command(path, args...)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out)
		}
	})
	return out, stop
}

// A pebble is Let's Encrypt's test server, with a DNS that leads every name to
// this machine.
type pebble struct {
	directory string // URL
	caFile    string // to trust the directory by
	httpPort  string // that validation goes to
	tlsPort   string
	roots     *x509.CertPool // of the certificates that it gives
	out       *logBuffer
	stop      func()
}

type pebbleOptions struct {
	validity time.Duration // of certificates; zero is 90 days
	eab      map[string]string
	blocked  []string // domains that it refuses
}

func startPebble(t *testing.T, opts pebbleOptions) *pebble {
	t.Helper()
	dir := t.TempDir()
	ca := newTestCA(t, "web CA of pebble")
	certFile, keyFile := pairIn(t, dir, "web", ca.issue(t, leafOptions{names: []string{"localhost"}}))
	p := &pebble{caFile: filepath.Join(dir, "ca.pem"), httpPort: freePort(t), tlsPort: freePort(t)}
	write(t, p.caFile, ca.pem())

	dns, dnsManage := freePort(t), freePort(t)
	dnsOut, _ := start(t, nil, "pebble-challtestsrv", "-dnsserver", "127.0.0.1:"+dns, "-management", "127.0.0.1:"+dnsManage,
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "")
	listen, manage := freePort(t), freePort(t)
	if opts.validity == 0 {
		opts.validity = 90 * 24 * time.Hour
	}
	number := func(port string) int {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + listen, "managementListenAddress": "127.0.0.1:" + manage,
		"certificate": certFile, "privateKey": keyFile,
		"httpPort": number(p.httpPort), "tlsPort": number(p.tlsPort),
		"externalAccountBindingRequired": opts.eab != nil, "externalAccountMACKeys": opts.eab,
		"domainBlocklist": opts.blocked,
		"retryAfter":      map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm":    "ecdsa",
		"profiles":        map[string]any{"default": map[string]any{"description": "for tests", "validityPeriod": int(opts.validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	confFile := filepath.Join(dir, "pebble.json")
	write(t, confFile, conf)
	p.out, p.stop = start(t, []string{"PEBBLE_VA_NOSLEEP=1"}, "pebble", "-config", confFile, "-dnsserver", "127.0.0.1:"+dns)
	p.directory = "https://localhost:" + listen + "/dir"

	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool()}, DisableKeepAlives: true}}
	eventually(t, func(ctx context.Context) error { _, err := get(ctx, web, p.directory); return err }, p.out)
	eventually(t, func(ctx context.Context) error { // the DNS takes connections
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+dns)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}, dnsOut)
	p.roots = x509.NewCertPool()
	eventually(t, func(ctx context.Context) error {
		root, err := get(ctx, web, "https://localhost:"+manage+"/roots/0")
		if err == nil && !p.roots.AppendCertsFromPEM(root) {
			err = fmt.Errorf("no root in %q", root)
		}
		return err
	}, p.out)
	return p
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// eventually tries until it succeeds: a process that starts tells nobody when it
// listens.
func eventually(t *testing.T, try func(context.Context) error, out *logBuffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v\n%s", err, out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// options obtain certificates from p, with what they need in dir.
func (p *pebble) options(dir string, domains ...string) ACME {
	return ACME{
		Domains: domains, AgreeTerms: true, CA: p.directory, CARoot: p.caFile, Storage: filepath.Join(dir, "acme"),
		Challenge: HTTP01, Listen: "127.0.0.1:" + p.httpPort,
	}
}

// client trusts the certificates that p gives.
func (p *pebble) client(domain string) *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: domain}
}
