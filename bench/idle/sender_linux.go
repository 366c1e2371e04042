package idle

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin/bench/servers"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	Addr      string        `json:"addr"`  // of the receiver
	Local     netip.Addr    `json:"local"` // its own
	KeepAlive time.Duration `json:"keep_alive"`
}

// sentReport is what a sender process reports, as JSON.
type sentReport struct {
	Conns int    `json:"conns"` // open
	Error string `json:"error"`
}

const (
	// connsPerSocket is how many connections share a socket, which tells them apart by
	// their connection IDs: a descriptor each would meet RLIMIT_NOFILE.
	connsPerSocket = 2500
	// maxDials is how many connections are made at a time: quic-go (v0.65.0) refuses
	// those beyond 32 that its server has not accepted yet.
	maxDials = 16
	// dialTimeout bounds the making of one connection, and a request on it.
	dialTimeout = servers.HandshakeTimeout
	// checkTimeout bounds a request that tells whether a connection lives, and checkTries
	// how many are made.
	checkTimeout = 10 * time.Second
	checkTries   = 3
)

// A dialer has the client's connections.
type dialer struct {
	senderConfig
	tls     *tls.Config
	sockets []*quic.Transport
	h3      *http3.Transport
	conns   []*http3.ClientConn
}

// send makes as many connections as each line on in says, one after the other, with a
// request on each, and reports how many are there now. The line "check" has it make a
// request on every one. Any other is the end.
func send(ctx context.Context, c senderConfig, in io.Reader, out io.Writer) error {
	d := &dialer{senderConfig: c, h3: &http3.Transport{DisableCompression: true}, tls: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a link of this machine, and a certificate made for this run
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{http3.NextProtoH3},
	}}
	enc := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var n int
		var err error
		switch _, notNumber := fmt.Sscan(lines.Text(), &n); {
		case notNumber == nil:
			err = d.dial(ctx, n)
		case lines.Text() == askCheck:
			err = each(len(d.conns), func(i int) error { return d.check(ctx, d.conns[i]) })
		default:
			return enc.Encode(sentReport{Conns: len(d.conns)})
		}
		report := sentReport{Conns: len(d.conns)}
		if err != nil {
			report.Error = err.Error()
		}
		if err := enc.Encode(report); err != nil {
			return err
		}
	}
	return nil
}

// askCheck asks a sender whether its connections live.
const askCheck = "check"

// dial makes n connections.
func (d *dialer) dial(ctx context.Context, n int) error {
	old := len(d.conns)
	d.conns = append(d.conns, make([]*http3.ClientConn, n)...)
	for len(d.sockets)*connsPerSocket < len(d.conns) {
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.Local, 0)))
		if err != nil {
			return err
		}
		d.sockets = append(d.sockets, &quic.Transport{Conn: socket})
	}
	to, err := net.ResolveUDPAddr("udp", d.Addr)
	if err != nil {
		return err
	}
	return each(n, func(i int) error {
		i += old
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn, err := d.sockets[i/connsPerSocket].Dial(ctx, to, d.tls, &quic.Config{
			MaxIdleTimeout: idleTimeout, HandshakeIdleTimeout: dialTimeout, KeepAlivePeriod: d.KeepAlive,
		})
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		d.conns[i] = d.h3.NewClientConn(conn)
		return d.check(ctx, d.conns[i])
	})
}

// each calls f for 0 to n-1, maxDials at a time, and returns an error of any.
func each(n int, f func(i int) error) error {
	var all sync.WaitGroup
	errs := make(chan error, 1)
	turn := make(chan struct{}, maxDials)
	for i := range n {
		turn <- struct{}{}
		if len(errs) > 0 {
			break
		}
		all.Go(func() {
			defer func() { <-turn }()
			if err := f(i); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// check tells whether a connection lives, by a request on it. One request in some 60,000 was not answered within
// a minute (quic-go v0.65.0, by its server and by ours alike), so that it is made again.
func (d *dialer) check(ctx context.Context, conn *http3.ClientConn) (err error) {
	for range checkTries {
		one, cancel := context.WithTimeout(ctx, checkTimeout)
		err = d.request(one, conn)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// request makes one.
func (d *dialer) request(ctx context.Context, conn *http3.ClientConn) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+d.Addr+"/", nil)
	if err != nil {
		return err
	}
	resp, err := conn.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("GET: %s", resp.Status)
	}
	return nil
}
