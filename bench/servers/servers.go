// Package servers has the HTTP/3 servers that benchmarks compare, each with the same
// handler, certificate, quic.Config, receive windows and socket buffers as the others:
//
//   - stock: the server of quic-go/http3 on a plain *net.UDPConn;
//   - off: tailfin.Server on a udp.Conn, with DisableDrain: what reading by package
//     udp and framing by package h3frame make of it;
//   - on: the same with the drain, which needs quic-go's tracer.
//
// With several shards each has as many sockets on its address: ours are those of
// udp.ListenShards, as `tailfin serve` opens them; quic-go has none, and has what is
// done with it in their place, a socket and a server each by SO_REUSEPORT, where the
// kernel distributes by address and port.
package servers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/udp"
)

// The servers.
const (
	Stock    = "stock"
	DrainOff = "off"
	DrainOn  = "on"
)

// Names lists all of them, in the order in which they are reported.
var Names = []string{Stock, DrainOff, DrainOn}

// CheckNames says which of some is none of them.
func CheckNames(list []string) error {
	if len(list) == 0 {
		return errors.New("no receivers")
	}
	for _, name := range list {
		if !slices.Contains(Names, name) {
			return fmt.Errorf("no receiver %q; there are %v", name, Names)
		}
	}
	return nil
}

// ReaderOf and DrainOf are how a row names a server: by what reads its socket, and
// whether there is a drain. quic-go has none.
func ReaderOf(name string) string {
	if name == Stock {
		return Stock
	}
	return "auto"
}

// DrainOf is on or off.
func DrainOf(name string) string {
	if name == DrainOn {
		return "on"
	}
	return "off"
}

// A Config says what to start.
type Config struct {
	Name    string
	Addr    netip.Addr
	Shards  int // 0 is 1
	Cert    tls.Certificate
	QUIC    *quic.Config // nil is quic-go's defaults
	Handler http.Handler

	// OpenWindows has a connection begin with the receive windows that quic-go's grow to
	// at most, so that it is not they that hold a transfer up.
	OpenWindows bool

	// ConnContext, if set, is called with each new connection.
	ConnContext func(ctx context.Context, c *quic.Conn) context.Context
}

// ReceiveBuffer is what every server asks for, for each socket, the same as quic-go
// does.
const ReceiveBuffer = 7 << 20

// The receive windows that a connection begins with are quic-go's defaults, for all:
// tailfin.Server would choose others.
const (
	streamWindow = 512 << 10
	connWindow   = 768 << 10

	// What they grow to.
	openStreamWindow = 6 << 20
	openConnWindow   = 15 << 20
)

// HandshakeTimeout is that of every server, and for the clients of benchmarks: a machine
// with other things to do is no failure.
const HandshakeTimeout = time.Minute

// A Server is one that serves, until the process ends.
type Server struct {
	Addr  netip.AddrPort
	conns []*udp.Conn // none for stock
}

// Start starts a server. It has no limit of connections: tailfin.Server's own, for all
// and by address, would refuse those of a benchmark, which come from one address.
func Start(c Config) (*Server, error) {
	tlsConf := &tls.Config{Certificates: []tls.Certificate{c.Cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{tailfin.NextProto}}
	if c.QUIC == nil {
		c.QUIC = &quic.Config{}
	}
	c.QUIC = c.QUIC.Clone()
	c.QUIC.HandshakeIdleTimeout = HandshakeTimeout
	c.QUIC.InitialStreamReceiveWindow, c.QUIC.InitialConnectionReceiveWindow = streamWindow, connWindow
	if c.OpenWindows {
		c.QUIC.InitialStreamReceiveWindow, c.QUIC.InitialConnectionReceiveWindow = openStreamWindow, openConnWindow
	}
	if c.Name == Stock {
		return startStock(c, tlsConf)
	}
	shards, err := udp.ListenShards("udp", netip.AddrPortFrom(c.Addr, 0).String(), max(1, c.Shards))
	if err != nil {
		return nil, err
	}
	s := &tailfin.Server{
		Handler: c.Handler, TLSConfig: tlsConf, QUICConfig: c.QUIC, ConnContext: c.ConnContext,
		MaxConns: -1, MaxConnsPerAddr: -1,
		DisableDrain: c.Name == DrainOff, Logger: slog.New(slog.DiscardHandler),
	}
	for i, conn := range shards.Conns() {
		_ = conn.SetReadBuffer(ReceiveBuffer)
		if c.Shards <= 1 {
			go func() { _ = s.Serve(conn) }()
			continue
		}
		tr := &quic.Transport{Conn: conn, ConnectionIDGenerator: shards.ConnectionIDs(i), Tracer: s.PacketTracer()}
		go func() { _ = s.ServeTransport(tr) }()
	}
	addr, err := netip.ParseAddrPort(shards.Conns()[0].LocalAddr().String())
	return &Server{Addr: addr, conns: shards.Conns()}, err
}

func startStock(c Config, tlsConf *tls.Config) (*Server, error) {
	var lc net.ListenConfig
	if c.Shards > 1 {
		lc.Control = reusePort
	}
	out := &Server{Addr: netip.AddrPortFrom(c.Addr, 0)}
	for range max(1, c.Shards) {
		conn, err := lc.ListenPacket(context.Background(), "udp", out.Addr.String())
		if err != nil {
			return nil, err
		}
		if out.Addr, err = netip.ParseAddrPort(conn.LocalAddr().String()); err != nil {
			return nil, err
		}
		s := &http3.Server{Handler: c.Handler, TLSConfig: tlsConf, QUICConfig: c.QUIC, ConnContext: c.ConnContext}
		go func() { _ = s.Serve(conn) }()
	}
	return out, nil
}

// reusePort has several sockets share an address.
func reusePort(_, _ string, raw syscall.RawConn) error {
	var err error
	if failed := raw.Control(func(fd uintptr) { err = setReusePort(fd) }); failed != nil {
		return failed
	}
	return err
}

// Read is what the sockets have received so far: datagrams, and what the kernel handed
// over at a time. It is zero for stock, which does not count.
func (s *Server) Read() (datagrams, receives uint64) {
	for _, c := range s.conns {
		stats := c.Stats()
		datagrams += stats.Datagrams
		receives += stats.Receives
	}
	return datagrams, receives
}
