package tailfin

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// A rawPeer is a server that speaks as a test says, byte by byte, on connections
// with a control stream.
type rawPeer struct {
	addr  string
	conns chan *rawPeerConn // each connection, as it is accepted
	tr    *quic.Transport
	ln    interface{ Close() error }
	stop  func()
}

type rawPeerConn struct {
	*quic.Conn
	control *quic.SendStream
}

// goAway sends a GOAWAY frame.
func (c *rawPeerConn) goAway(id uint64) { _, _ = c.control.Write(h3frame.AppendGoAway(nil, id)) }

type rawPeerOptions struct {
	quic     *quic.Config
	tls      *tls.Config
	socket   net.PacketConn // of the test's own
	resetKey *quic.StatelessResetKey
	early    bool // take 0-RTT data
	settings h3frame.Settings
	// answer gets each request stream; it may read the request.
	answer func(conn *rawPeerConn, str *quic.Stream)
}

func newRawPeer(t *testing.T, opts rawPeerOptions) *rawPeer {
	t.Helper()
	socket := opts.socket
	if socket == nil {
		var err error
		if socket, err = udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(udp.Mmsg)); err != nil {
			t.Fatal(err)
		}
	}
	tlsConf := opts.tls
	if tlsConf == nil {
		tlsConf = serverTLS(t)
	}
	conf := &quic.Config{}
	if opts.quic != nil {
		conf = opts.quic.Clone()
	}
	conf.Allow0RTT = opts.early
	p := &rawPeer{addr: socket.LocalAddr().String(), conns: make(chan *rawPeerConn, 10_000)}
	p.tr = &quic.Transport{Conn: socket, StatelessResetKey: opts.resetKey}
	var accept func(context.Context) (*quic.Conn, error)
	if opts.early {
		ln, err := p.tr.ListenEarly(tlsConf, conf)
		if err != nil {
			t.Fatal(err)
		}
		accept, p.ln = ln.Accept, ln
	} else {
		ln, err := p.tr.Listen(tlsConf, conf)
		if err != nil {
			t.Fatal(err)
		}
		accept, p.ln = ln.Accept, ln
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn, opts) })
		}
	})
	p.stop = sync.OnceFunc(func() {
		_ = p.ln.Close()
		_ = p.tr.Close()
		_ = socket.Close()
		wg.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

func (p *rawPeer) serve(conn *quic.Conn, opts rawPeerOptions) {
	c := &rawPeerConn{Conn: conn}
	var err error
	if c.control, err = conn.OpenUniStream(); err != nil {
		return
	}
	b := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	_, _ = c.control.Write(h3frame.AppendSettings(b, opts.settings))
	p.conns <- c
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		str, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		wg.Go(func() { opts.answer(c, str) })
	}
}

// requestBytes reads a request to its end, as it is on the wire.
func requestBytes(str *quic.Stream) []byte {
	b, _ := io.ReadAll(str)
	return b
}

// finish sends the parts and the FIN.
func finish(str *quic.Stream, parts ...[]byte) {
	_, _ = str.Write(bytes.Join(parts, nil))
	_ = str.Close()
}

// reply is an answer of 200 with a body.
func reply(body string) []byte {
	return append(head(200), h3frame.AppendData(nil, []byte(body))...)
}

// eventually waits for what no channel tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// poolSize is the number of connections that take new requests.
func (t *Transport) poolSize() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, h := range t.hosts {
		n += len(h.conns)
	}
	return n
}
