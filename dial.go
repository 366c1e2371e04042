package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/quic-go/quic-go"
)

// attemptDelay is the Connection Attempt Delay of RFC 8305 §5: how long an
// address is tried alone before the next one is tried beside it.
const attemptDelay = 250 * time.Millisecond

// ErrDialTimeout is what a DialError wraps if there was no connection within
// Transport.DialTimeout. It is an os.ErrDeadlineExceeded, and no context error:
// the bound is the Transport's, not the caller's.
var ErrDialTimeout = fmt.Errorf("no connection within the dial timeout: %w", os.ErrDeadlineExceeded)

// A Resolver looks up the addresses of a host. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of host, most wanted first. network is "ip".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// dial makes a connection. early asks for one that can send 0-RTT data.
func (t *Transport) dial(ctx context.Context, authority string, opts drainOptions, early bool) (*clientConn, error) {
	timeout := t.DialTimeout
	if timeout <= 0 {
		timeout = DefaultDialTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrDialTimeout)
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := context.AfterFunc(t.life(), func() { abort(ErrTransportClosed) })
	defer stop()

	made, err := t.dialQUIC(ctx, authority, opts, early)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, &DialError{Progress: Progress{RetrySafe: true}, Addr: authority, Err: err}
	}
	c := newClientConn(t, authority, made, opts)
	t.keep(c)
	return c, nil
}

// A dialedConn is a connection as dialing leaves it.
type dialedConn struct {
	quic *quic.Conn
	wire *wireWatch // nil if the connection is not traced
}

func (t *Transport) dialQUIC(ctx context.Context, authority string, opts drainOptions, early bool) (dialedConn, error) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		return dialedConn{}, err
	}
	tlsConf := t.tlsConfig(host)
	if t.Dial != nil {
		return t.attempt(ctx, authority, opts, func(conf *quic.Config) (*quic.Conn, error) {
			return t.Dial(ctx, authority, tlsConf, conf)
		})
	}
	tr, err := t.transport()
	if err != nil {
		return dialedConn{}, err
	}
	addrs, err := t.resolve(ctx, host, port)
	if err != nil {
		return dialedConn{}, err
	}
	dial := tr.Dial
	if early && tlsConf.ClientSessionCache != nil {
		dial = tr.DialEarly
	}
	return race(ctx, addrs, func(ctx context.Context, addr netip.AddrPort) (dialedConn, error) {
		c, err := t.attempt(ctx, addr.String(), opts, func(conf *quic.Config) (*quic.Conn, error) {
			return dial(ctx, net.UDPAddrFromAddrPort(addr), tlsConf, conf)
		})
		if err != nil {
			return dialedConn{}, fmt.Errorf("%s: %w", addr, err)
		}
		return c, nil
	})
}

// attempt makes one connection, with all that watches it, and reports it to the
// trace of the request that it is made for.
func (t *Transport) attempt(ctx context.Context, addr string, opts drainOptions, dial func(*quic.Config) (*quic.Conn, error)) (dialedConn, error) {
	conf := &quic.Config{}
	if t.QUICConfig != nil {
		conf = t.QUICConfig.Clone()
	}
	fitPackets(conf)
	var watch *wireWatch
	if !opts.disabled {
		watch = &wireWatch{}
		conf = watch.install(conf)
	}
	trace := traceOf(ctx)
	trace.connectStart(addr)
	opts.guard = t.resets()
	qc, err := dial(opts.install(conf))
	trace.connectDone(addr, qc, err)
	if err != nil {
		return dialedConn{}, err
	}
	return dialedConn{quic: qc, wire: watch}, nil
}

// race tries the addresses in turn, the next one once one has failed or
// attemptDelay has passed (RFC 8305 §5), and returns the first connection.
func race(ctx context.Context, addrs []netip.AddrPort, dial func(context.Context, netip.AddrPort) (dialedConn, error)) (dialedConn, error) {
	type result struct {
		conn dialedConn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addrs))
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	running := 0
	start := func() {
		addr := addrs[0]
		addrs = addrs[1:]
		running++
		timer.Reset(attemptDelay)
		go func() {
			conn, err := dial(ctx, addr)
			results <- result{conn, err}
		}()
	}
	start()
	var errs []error
	for {
		var delay <-chan time.Time
		if len(addrs) > 0 {
			delay = timer.C
		}
		select {
		case <-delay:
			start()
		case r := <-results:
			running--
			if r.err == nil {
				late := running
				go func() { // those that come second
					for range late {
						if r := <-results; r.err == nil {
							closeNoError(r.conn.quic)
						}
					}
				}()
				return r.conn, nil
			}
			errs = append(errs, r.err)
			if len(addrs) > 0 && ctx.Err() == nil {
				start()
			} else if running == 0 {
				return dialedConn{}, errors.Join(errs...)
			}
		}
	}
}

// resolve returns the addresses to try, in the order of RFC 8305 §4.
func (t *Transport) resolve(ctx context.Context, host, port string) ([]netip.AddrPort, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	ips, err := t.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	addrs := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range interleave(ips) {
		addrs = append(addrs, netip.AddrPortFrom(ip, uint16(n)))
	}
	return addrs, nil
}

func (t *Transport) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	resolver := t.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	if _, traced := resolver.(*net.Resolver); traced { // by package net itself
		return resolver.LookupNetIP(ctx, "ip", host)
	}
	trace := traceOf(ctx)
	trace.dnsStart(httptrace.DNSStartInfo{Host: host})
	ips, err := resolver.LookupNetIP(ctx, "ip", host)
	done := httptrace.DNSDoneInfo{Err: err}
	for _, ip := range ips {
		done.Addrs = append(done.Addrs, net.IPAddr{IP: ip.AsSlice(), Zone: ip.Zone()})
	}
	trace.dnsDone(done)
	return ips, err
}

// interleave makes the address families take turns, the family of the first
// address first, and else keeps the order (RFC 8305 §4).
func interleave(ips []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if len(first) == 0 || ip.Is4() == first[0].Is4() {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	ordered := make([]netip.Addr, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			ordered = append(ordered, first[i])
		}
		if i < len(second) {
			ordered = append(ordered, second[i])
		}
	}
	return ordered
}

func (t *Transport) tlsConfig(host string) *tls.Config {
	conf := t.TLSClientConfig.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.NextProtos = []string{NextProto}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	return conf
}
