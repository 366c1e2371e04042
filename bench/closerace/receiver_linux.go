package closerace

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

// A server takes the uploads of one turn.
type server interface {
	addr() string
	// end returns when all that was sent has been handled.
	end(ctx context.Context, sent int, o *outcome) error
}

// A client makes the downloads of one turn.
type client interface {
	// fetch reads the answer to a request for path, and returns errUnsent, wrapped, if
	// there could be none.
	fetch(ctx context.Context, addr, path string) error
	end(o *outcome) error
}

// errUnsent tells a request that was never made.
var errUnsent = errors.New("unsent")

// receiverConfig is what a receiver process is told.
type receiverConfig struct {
	Addr netip.Addr `json:"addr"` // to listen on
}

// An order is a line to either process.
type order struct {
	Op   string `json:"op"`
	Turn turn   `json:"turn"`
	Addr string `json:"addr"` // of the other end
	Sent int    `json:"sent"`
}

// The orders to a receiver process.
const (
	opServe = "serve" // answered by a listening
	opEnd   = "end"   // answered by an outcome
	opFetch = "fetch" // answered by an outcome
)

// A listening is where a server is.
type listening struct {
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// turnTimeout bounds what one turn may take in a process.
const turnTimeout = 5 * time.Minute

// receive is the receiver process.
func receive(c receiverConfig, newCert func() (tls.Certificate, error), in io.Reader, out io.Writer) error {
	cert, err := newCert()
	if err != nil {
		return err
	}
	var at server
	var count *tally
	lines, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := lines.Decode(&o); err != nil {
			return ignoreEOF(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), turnTimeout)
		switch o.Op {
		case opServe:
			runtime.GOMAXPROCS(o.Turn.Procs)
			count = newTally(o.Turn)
			if at, err = newServer(c, cert, count); err != nil {
				err = answers.Encode(listening{Error: err.Error()})
			} else {
				err = answers.Encode(listening{Addr: at.addr()})
			}
		case opEnd:
			var res outcome
			err := at.end(ctx, o.Sent, &res)
			err = answers.Encode(finish(count, res, err))
			if err != nil {
				cancel()
				return err
			}
		case opFetch:
			runtime.GOMAXPROCS(o.Turn.Procs)
			count = newTally(o.Turn)
			res, ferr := fetchAll(ctx, c, count, o.Addr)
			err = answers.Encode(finish(count, res, ferr))
		default:
			err = fmt.Errorf("no order %q", o.Op)
		}
		cancel()
		if err != nil {
			return err
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// finish adds the accounts to what a receiver says of itself.
func finish(count *tally, own outcome, err error) outcome {
	o := count.outcome()
	o.Unsent, o.Saved, o.TimedOut, o.Drops, o.Backend = own.Unsent, own.Saved, own.TimedOut, own.Drops, own.Backend
	if err != nil {
		o.Error = err.Error()
	}
	return o
}

func newServer(c receiverConfig, cert tls.Certificate, count *tally) (server, error) {
	switch count.turn.Receiver {
	case Stock:
		return newStockServer(c.Addr, cert, count)
	case XNet:
		return newXNetServer(c.Addr, cert, count)
	default:
		return newTailfinServer(c.Addr, cert, count)
	}
}

func newClient(c receiverConfig, count *tally) (client, error) {
	switch count.turn.Receiver {
	case Stock:
		return newStockClient(c.Addr, count)
	case XNet:
		return newXNetClient(c.Addr, count)
	default:
		return newTailfinClient(count), nil
	}
}

// fetchAll makes the requests of a turn.
func fetchAll(ctx context.Context, c receiverConfig, count *tally, addr string) (o outcome, err error) {
	cl, err := newClient(c, count)
	if err != nil {
		return o, err
	}
	var mu sync.Mutex
	each(count.turn, func(id uint64) {
		ctx, cancel := context.WithTimeout(ctx, messageTimeout)
		defer cancel()
		if err := cl.fetch(ctx, addr, peer.NumberedPath(id, count.turn.Size)); errors.Is(err, errUnsent) {
			mu.Lock()
			defer mu.Unlock()
			o.Unsent++
		}
	})
	return o, cl.end(&o)
}

// messageTimeout bounds one message.
const messageTimeout = 10 * time.Second

// each calls f for every message of a turn, by as many workers as it says.
func each(t turn, f func(id uint64)) {
	ids := make(chan uint64)
	var wg sync.WaitGroup
	for range t.Workers {
		wg.Go(func() {
			for id := range ids {
				f(id)
			}
		})
	}
	for i := range t.Count {
		ids <- t.First + uint64(i)
	}
	close(ids)
	wg.Wait()
}

// readBuffer is what all receivers ask for: quic-go's size.
const readBuffer = 7 << 20

// listen opens a socket for a receiver that does not open its own. A client listens on
// any address.
func listen(at netip.Addr) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, err
	}
	if raw, err := conn.SyscallConn(); err == nil {
		var forced error
		_ = raw.Control(func(fd uintptr) {
			forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, readBuffer)
		})
		if forced != nil {
			_ = conn.SetReadBuffer(readBuffer)
		}
	}
	return conn, nil
}

func serverTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}
}

func clientTLS() *tls.Config {
	conf := trusting()
	conf.CurvePreferences = []tls.CurveID{tls.X25519} // the cheap one: a handshake is most of what a message costs
	conf.NextProtos, conf.ServerName = []string{"h3"}, "localhost"
	return conf
}
