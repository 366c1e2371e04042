package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// A wireUpstream speaks HTTP/1.1 and notes the bytes of each connection as they come. It
// answers what it takes for a request, and strictly: what is no request ends the
// connection.
type wireUpstream struct {
	ln net.Listener

	mu    sync.Mutex
	conns []*bytes.Buffer
	open  []net.Conn
	work  sync.WaitGroup
}

func newWireUpstream(t *testing.T) *wireUpstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &wireUpstream{ln: ln}
	u.work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			u.work.Go(func() { u.serve(conn) })
		}
	})
	t.Cleanup(u.close)
	return u
}

// close waits until what was sent is read: the gateway has closed its connections.
func (u *wireUpstream) close() {
	_ = u.ln.Close()
	u.mu.Lock()
	for _, conn := range u.open {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	u.mu.Unlock()
	u.work.Wait()
}

// noted writes what is read into a buffer that the test looks at later.
type noted struct {
	net.Conn
	u   *wireUpstream
	buf *bytes.Buffer
}

func (n noted) Read(p []byte) (int, error) {
	k, err := n.Conn.Read(p)
	n.u.mu.Lock()
	n.buf.Write(p[:k])
	n.u.mu.Unlock()
	return k, err
}

func (u *wireUpstream) serve(conn net.Conn) {
	defer conn.Close()
	buf := &bytes.Buffer{}
	u.mu.Lock()
	u.conns, u.open = append(u.conns, buf), append(u.open, conn)
	u.mu.Unlock()
	in := bufio.NewReader(noted{conn, u, buf})
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "" {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			return
		}
		body := fmt.Sprint(n)
		if req.Method == http.MethodHead {
			body = ""
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(fmt.Sprint(n)), body); err != nil {
			return
		}
	}
}

// A wireRequest is a request as the strict parser below takes it.
type wireRequest struct {
	method, target string
	fields         [][2]string
	body           []byte
	trailer        [][2]string
}

func (r *wireRequest) get(name string) (values []string) {
	for _, f := range r.fields {
		if strings.EqualFold(f[0], name) {
			values = append(values, f[1])
		}
	}
	return values
}

var errWire = errors.New("this is no request of RFC 9112")

// strictLine takes a line that ends with CRLF and has no other CR, LF or NUL.
func strictLine(b []byte) (line string, rest []byte, err error) {
	i := bytes.Index(b, []byte("\r\n"))
	if i < 0 || bytes.ContainsAny(b[:i], "\r\n\x00") {
		return "", nil, fmt.Errorf("%w: line %.100q", errWire, b)
	}
	return string(b[:i]), b[i+2:], nil
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// strictFields takes fields up to an empty line: names are tokens, and no line goes on
// with the one before (RFC 9112 §5).
func strictFields(b []byte) (fields [][2]string, rest []byte, err error) {
	for {
		line, after, err := strictLine(b)
		if err != nil {
			return nil, nil, err
		}
		b = after
		if line == "" {
			return fields, b, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, nil, fmt.Errorf("%w: field %.100q", errWire, line)
		}
		fields = append(fields, [2]string{name, strings.Trim(value, " \t")})
	}
}

// strictRequest takes one request off b, by RFC 9112 and with nothing left to
// interpretation: one Host, a length or chunks and not both, no repetition of either.
func strictRequest(b []byte) (req *wireRequest, rest []byte, err error) {
	line, b, err := strictLine(b)
	if err != nil {
		return nil, nil, err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || !strings.HasPrefix(parts[1], "/") || parts[2] != "HTTP/1.1" ||
		strings.ContainsFunc(parts[1], func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		return nil, nil, fmt.Errorf("%w: %.100q", errWire, line)
	}
	req = &wireRequest{method: parts[0], target: parts[1]}
	if req.fields, b, err = strictFields(b); err != nil {
		return nil, nil, err
	}
	lengths, codings := req.get("Content-Length"), req.get("Transfer-Encoding")
	switch {
	case len(req.get("Host")) != 1:
		return nil, nil, fmt.Errorf("%w: Host %q", errWire, req.get("Host"))
	case len(lengths)+len(codings) > 1:
		return nil, nil, fmt.Errorf("%w: Content-Length %q and Transfer-Encoding %q", errWire, lengths, codings)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != lengths[0] || uint64(len(b)) < n {
			return nil, nil, fmt.Errorf("%w: Content-Length %q of %d bytes", errWire, lengths[0], len(b))
		}
		req.body, b = b[:n], b[n:]
	case len(codings) == 1:
		if codings[0] != "chunked" {
			return nil, nil, fmt.Errorf("%w: Transfer-Encoding %q", errWire, codings[0])
		}
		if req.body, b, err = strictChunks(b); err != nil {
			return nil, nil, err
		}
		if req.trailer, b, err = strictFields(b); err != nil {
			return nil, nil, err
		}
	}
	return req, b, nil
}

// strictChunks takes chunks without extensions, up to the trailer section.
func strictChunks(b []byte) (body, rest []byte, err error) {
	for {
		line, after, err := strictLine(b)
		if err != nil {
			return nil, nil, err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: chunk %.100q", errWire, line)
		}
		if n == 0 {
			return body, after, nil
		}
		if uint64(len(after)) < n+2 || string(after[n:n+2]) != "\r\n" {
			return nil, nil, fmt.Errorf("%w: chunk of %d bytes", errWire, n)
		}
		body, b = append(body, after[:n]...), after[n+2:]
	}
}

// An attack is a request that is to become two at the upstream, or to say there what the
// client must not.
type attack struct {
	head    []h3frame.Field // with {id} for what tells it from others
	body    []byte
	trailer []h3frame.Field
}

// smuggled is what would be a request of its own.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: evil.example\r\nX-Id: smuggled\r\n\r\n"

func fields(pairs ...string) []h3frame.Field {
	list := make([]h3frame.Field, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, h3frame.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// request is the head of a well-formed request, with further fields in pairs.
func request(method, path string, more ...string) []h3frame.Field {
	return append(fields(":method", method, ":scheme", "https", ":authority", "client.example", ":path", path, "x-id", "{id}"), fields(more...)...)
}

// attacks are by header injection, in lengths, in targets and in trailers.
func attacks() (list []attack) {
	get := func(more ...string) { list = append(list, attack{head: request("GET", "/", more...)}) }
	post := func(body string, more ...string) {
		list = append(list, attack{head: request("POST", "/", more...), body: []byte(body)})
	}
	target := func(method, path string) {
		list = append(list, attack{head: request(method, path)}, attack{head: request(method, path), body: []byte(smuggled)})
	}
	for _, end := range []string{"\r\n", "\n", "\r", "\x00", "\r\n ", "\r\n\t", "\u2028", "\u0085", "\xc4\x8a", "\x0b", "\x0c", "\x1b"} {
		get("x-evil", "a"+end+"X-Forwarded-For: 6.6.6.6")
		get("x-evil", "a"+end+end+smuggled)
		get("x-evil"+end+"x-forwarded-for", "6.6.6.6")
		get("x-evil: a"+end+"x", "b")
		get("user-agent", "a"+end+end+smuggled)
		get("cookie", "a=b"+end+"X-Evil: 1")
		target("GET", "/a"+end+end+smuggled)
		target("GET", "/?a"+end+"X-Evil: 1")
		target("GET"+end+"X-Evil: 1", "/")
		for i, name := range []string{":authority", ":scheme"} {
			head := request("GET", "/")
			head[2-i].Name, head[2-i].Value = name, "evil.example"+end+"X-Evil: 1"
			list = append(list, attack{head: head})
		}
	}
	for _, name := range []string{
		"x evil", " x-evil", "x-evil ", "x-evil:", ":x-evil", "X-Evil", "x\tevil", "x-evil\x00", "", " ", "x(evil)", "x-évil", "x-evil\x7f", "content-length ", "transfer-encoding ",
		"Transfer-Encoding", "Content-Length", "transfer\x0bencoding", "transfer-encoding\x00", "host ", "content_length", "transfer_encoding", strings.Repeat("x", 8000),
	} {
		get(name, "chunked")
		post("0\r\n\r\n"+smuggled, name, "chunked")
		post("0\r\n\r\n"+smuggled, name, "5")
	}
	for _, coding := range []string{"chunked", "identity", "Chunked", "xchunked", "chunked, identity", "gzip, chunked", " chunked", "\tchunked", ""} {
		post("0\r\n\r\n"+smuggled, "transfer-encoding", coding)
		post("0\r\n\r\n"+smuggled, "transfer-encoding", coding, "content-length", "0")
		post("0\r\n\r\n"+smuggled, "te", coding)
	}
	for _, n := range []string{"0", "5", "-1", "+5", "5, 5", "0, 5", "5,0", "0x5", "5 5", "05", " 5", "5\r\n", "18446744073709551615", "9223372036854775807", "9223372036854775808", "", "5.0", "5;a", "٥"} {
		post(smuggled, "content-length", n)
		get("content-length", n)
		post(smuggled, "content-length", "5", "content-length", n)
		post(smuggled, "content-length", fmt.Sprint(len(smuggled)), "content-length", n)
	}
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "http2-settings", "proxy-authorization"} {
		get(name, "x-forwarded-for, content-length, host, x-id")
		post(smuggled, name, "close, transfer-encoding")
		get(name, "websocket")
	}
	for _, name := range []string{
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded", "x_forwarded_for", "x-forwarded_for", "x-forwarded-client-cert",
		"forwarded", "x-real-ip", "x_real_ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-original-url", "x-rewrite-url", "proxy",
	} {
		get(name, "6.6.6.6")
		get(name, "6.6.6.6", name, "6.6.6.7")
		list = append(list, attack{head: request("POST", "/", "trailer", name), body: []byte("x"), trailer: fields(name, "6.6.6.6")})
	}
	for _, host := range []string{"evil.example", "client.example:443", "", "client.example, evil.example", "CLIENT.EXAMPLE"} {
		get("host", host)
		get("host", "client.example", "host", host)
	}
	for _, authority := range []string{"", "user:pass@client.example", "client.example/path", "client.example?x", "client.example#x", "client example", `client.example"`, `client.example\`, "[::1", "client.example:99999", "a;host=b", strings.Repeat("a", 5000), "bücher.example", "client.example\xff"} {
		head := request("GET", "/")
		head[2].Value = authority
		list = append(list, attack{head: head})
	}
	for _, path := range []string{
		"", " ", "*", "a", "//evil.example/", "///", "http://evil.example/", "https://evil.example/smuggled", "evil.example:443", "/ HTTP/1.1", "/a HTTP/1.1\r\nX-Evil: 1", "/a\tb", "/#frag", "/?q#frag", "/a%23b", "/?a%23b",
		"/%0d%0aX-Evil:%201", "/?%0d%0aX-Evil:%201", "/%20HTTP/1.1", "/?a b", "/%00", "/?%00", "/..", "/../x", "/%2e%2e/x", "/a/%2e%2E;x/b", "/..%5cx", "/a\\..\\b", "/%", "/%zz", "/?%zz", "/?a;b&c", "/\xff", "/?\xff", "/{}|^`\"<>", "/?{}|^`\"<>",
		"/" + strings.Repeat("a", 20_000), "/?" + strings.Repeat("a=b&", 10_000),
	} {
		target("GET", path)
	}
	for _, method := range []string{"", "G ET", "get", "GET /smuggled HTTP/1.1", "CONNECT", "TRACE", "OPTIONS", "PRI", "GET\t", "M-SEARCH", "é", strings.Repeat("X", 4000)} {
		target(method, "/")
	}
	for _, extra := range [][]h3frame.Field{
		fields(":method", "POST"), fields(":path", "/smuggled"), fields(":authority", "evil.example"), fields(":protocol", "websocket"), fields(":status", "200"), fields(":evil", "1"), fields(":", "1"),
	} {
		list = append(list, attack{head: append(request("GET", "/"), extra...)}) // out of place
		list = append(list, attack{head: append(extra, request("GET", "/")...)}) // twice
		list = append(list, attack{head: request("POST", "/"), body: []byte("x"), trailer: extra})
	}
	for _, tr := range [][]h3frame.Field{
		fields("content-length", "5"), fields("transfer-encoding", "chunked"), fields("host", "evil.example"), fields("x-evil", "a\r\n\r\n"+smuggled), fields("x evil", "1"), fields("X-Evil", "1"),
		fields("trailer", "x"), fields("connection", "close"), fields("x-sum", "7"), fields("x-id", "smuggled"), fields("authorization", "evil"), fields("x-big", strings.Repeat("x", 3000)),
	} {
		list = append(list, attack{head: request("POST", "/", "trailer", tr[0].Name), body: []byte("body"), trailer: tr})
		list = append(list, attack{head: request("POST", "/"), body: []byte("body"), trailer: tr})
		list = append(list, attack{head: request("POST", "/", "content-length", "4"), body: []byte("body"), trailer: tr})
	}
	post(smuggled, "expect", "100-continue")
	post(smuggled, "expect", "100-continue\r\n\r\n")
	get("expect", "200-ok")
	return list
}

// TestHostileRequests sends what is to be two requests at an upstream over HTTP/1.1, or
// to say there what only a gateway may. A parser that takes no liberties finds one
// request for each that was answered, none for those refused, and on each the fields
// that it is to have.
func TestHostileRequests(t *testing.T) {
	for _, preserve := range []bool{false, true} {
		t.Run(fmt.Sprintf("preserve host %v", preserve), func(t *testing.T) {
			u := newWireUpstream(t)
			g := startGateway(t, Config{Upstream: "http://" + u.ln.Addr().String() + "/base", PreserveHost: preserve, BreakerFailures: 1 << 30})
			smuggling := hostile.Result{Kind: "client", Fault: fmt.Sprintf("request smuggling and header injection towards HTTP/1.1, preserve-host %v", preserve)}
			answered := make(map[string]bool) // by its ID, what may have arrived
			var client *peer.FieldClient
			dials, forwarded := 0, 0
			for i, a := range attacks() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if client == nil || client.Closed() {
					var err error
					if client, err = peer.DialFields(ctx, g.addr); err != nil {
						t.Fatal(err)
					}
					t.Cleanup(client.Close)
					dials++
				}
				id := fmt.Sprint("attack-", i)
				head := append([]h3frame.Field(nil), a.head...)
				for j := range head {
					head[j].Value = strings.ReplaceAll(head[j].Value, "{id}", id)
				}
				answer, err := client.Do(ctx, head, a.body, a.trailer)
				cancel()
				smuggling.Tries++
				answered[id] = err == nil && answer.Status == http.StatusOK
				if answered[id] {
					forwarded++
				}
				if errors.Is(err, context.DeadlineExceeded) {
					smuggling.Crashed++
				}
				if err == nil && answer.Status >= 500 && answer.Status != http.StatusBadGateway && answer.Status != http.StatusNotImplemented {
					t.Errorf("%.200q: status %d", a.head, answer.Status)
				}
			}
			// The gateway goes on.
			_, got := g.mustDo(t, http.MethodPost, "/last", strings.NewReader("last"), "X-Id", "last")
			want(t, got, "4")
			answered["last"] = true
			_ = g.Close()
			u.close()

			found := make(map[string]int)
			for _, conn := range u.conns {
				for rest := conn.Bytes(); len(rest) > 0; {
					req, after, err := strictRequest(rest)
					if err != nil {
						if cutShort(rest) {
							break // the gateway has given up in the middle, and closed
						}
						t.Errorf("%v\n%.500q", err, rest)
						smuggling.Corrupt++
						break
					}
					rest = after
					id := strings.Join(req.get("X-Id"), ",")
					found[id]++
					if problem := req.problem(t, u.ln.Addr().String(), preserve); problem != "" {
						t.Errorf("%s: %s\n%.800q", id, problem, req)
						smuggling.Corrupt++
					}
				}
			}
			for id, n := range found {
				if _, sent := answered[id]; !sent || n > 1 {
					t.Errorf("%d requests %q", n, id)
					smuggling.Leaked += n
				}
			}
			for id, ok := range answered {
				if ok && found[id] == 0 {
					t.Errorf("%s was answered and never arrived", id)
					smuggling.Lost++
				}
			}
			smuggling.Bound = fmt.Sprintf("%d forwarded, each one request with the fields of the gateway; %d refused; %d connections at the upstream", forwarded, smuggling.Tries-forwarded, len(u.conns))
			smuggling.Report(t)
			t.Logf("%d connections of the client", dials)
		})
	}
}

// cutShort tells a request that the gateway began and gave up: a whole head, and less
// body than it says.
func cutShort(b []byte) bool {
	_, b, err := strictLine(b)
	if err != nil {
		return false
	}
	head, body, err := strictFields(b)
	if err != nil {
		return false
	}
	for _, f := range head {
		switch strings.ToLower(f[0]) {
		case "content-length":
			n, err := strconv.ParseUint(f[1], 10, 63)
			return err == nil && uint64(len(body)) < n
		case "transfer-encoding":
			return !bytes.HasPrefix(body, []byte("0\r\n")) && !bytes.Contains(body, []byte("\r\n0\r\n"))
		}
	}
	return false
}

// problem is what is wrong with a request that has arrived; empty if nothing is.
func (r *wireRequest) problem(t *testing.T, upstream string, preserve bool) string {
	t.Helper()
	for _, f := range append(r.fields, r.trailer...) {
		name, value := strings.ToLower(strings.ReplaceAll(f[0], "_", "-")), f[1]
		switch {
		case strings.Contains(name, "evil"):
			if name != "x-evil" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return "a field that nobody sent: " + name
			}
		case strings.HasPrefix(name, "x-forwarded"), name == "forwarded":
			if strings.Contains(value, "6.6.6") {
				return "the client says who it is: " + f[0]
			}
		case name == "x-real-ip", name == "true-client-ip", name == "x-client-ip", name == "x-cluster-client-ip", name == "x-original-url", name == "x-rewrite-url", name == "proxy":
			return "the client says who it is: " + f[0]
		case name == "connection", name == "keep-alive", name == "proxy-connection", name == "upgrade":
			return "a field of the connection: " + f[0]
		}
	}
	host, via := r.get("Host"), r.get("Via")
	switch {
	case len(r.get("X-Id")) != 1:
		return "not one X-Id"
	case !strings.HasPrefix(r.target, "/base/"):
		return "it has left the prefix"
	case strings.Contains(r.target, "/../"), strings.HasSuffix(r.target, "/.."):
		return "dot segments"
	case !preserve && host[0] != upstream:
		return "Host is " + host[0]
	case preserve && r.get("X-Id")[0] != "last" && strings.Contains(host[0], "evil"):
		return "Host is " + host[0]
	case len(r.get("X-Forwarded-For")) != 1 || r.get("X-Forwarded-For")[0] != "127.0.0.1" || len(r.get("X-Forwarded-Proto")) != 1 || len(r.get("X-Forwarded-Host")) != 1:
		return "X-Forwarded"
	case len(r.get("Forwarded")) != 1 || !strings.HasPrefix(r.get("Forwarded")[0], `for="127.0.0.1";host="`) || !strings.HasSuffix(r.get("Forwarded")[0], `";proto=https`):
		return "Forwarded"
	case strings.Count(r.get("Forwarded")[0], `"`) != 4:
		return "quotes in Forwarded"
	case len(via) == 0 || !strings.HasPrefix(via[len(via)-1], "3.0 tailfin-"):
		return "Via"
	}
	return ""
}
