package tailfin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/netlab"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
	"github.com/tailfin-quic/tailfin/udp"
)

// orderWire holds back a third of what peers send, doubles a tenth and loses some.
var orderWire = netlab.Profile{
	Name: "close race", Seed: orderSeed,
	Forward: netlab.Direction{Delay: time.Millisecond, Reorder: 0.3, Duplicate: 0.1, Loss: 0.03},
	Back:    netlab.Direction{Delay: time.Millisecond, Loss: 0.01},
}

func orderLab(t *testing.T) *netlab.Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), orderPatience)
	defer cancel()
	lab, err := netlab.Build(ctx, orderWire)
	if errors.Is(err, unix.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// labSocket is a socket of ours in a host.
func labSocket(t *testing.T, h netlab.Host, backend udp.Backend) *udp.Conn {
	t.Helper()
	var conn *udp.Conn
	if err := h.Do(func() (err error) {
		conn, err = udp.Listen("udp4", labAddr(h), udp.WithBackend(backend))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func labAddr(h netlab.Host) string { return netip.AddrPortFrom(h.Addr, 0).String() }

// A labDialer dials from a socket of a host, wherever the name says.
type labDialer struct {
	conn *udp.Conn
	tr   *quic.Transport
	to   func() string
}

func newLabDialer(t *testing.T, h netlab.Host, backend udp.Backend, to func() string) *labDialer {
	conn := labSocket(t, h, backend)
	return &labDialer{conn, &quic.Transport{Conn: conn}, to}
}

func (d *labDialer) dial(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
	to, err := net.ResolveUDPAddr("udp4", d.to())
	if err != nil {
		return nil, err
	}
	return d.tr.Dial(ctx, to, tlsConf, conf)
}

func (d *labDialer) stop() {
	_ = d.tr.Close()
	_ = d.conn.Close()
}

// labBound is what the wire has done, for a row.
func labBound(t *testing.T, lab *netlab.Lab) string {
	s, err := lab.Stats()
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("wire: %d passed, %d held back, %d twice, %d lost", s.Forward.Passed, s.Forward.HeldBack, s.Forward.Duplicated, s.Forward.Lost)
}

// TestHostileCloseOverAWire sends random plans over a wire that reorders, doubles and
// loses: what arrives is up to the wire, and what has arrived says what is delivered.
func TestHostileCloseOverAWire(t *testing.T) {
	backends := orderBackends(t)
	const atOnce = 4
	for d, direction := range []string{"upload", "download"} {
		t.Run(direction, func(t *testing.T) {
			leaks, lab := beginLeakCheck(), orderLab(t)
			receivers := openOrderReceivers(t, backends, func(t *testing.T, backend udp.Backend, readAhead int) orderReceiver {
				if direction == "upload" {
					s := newOrderServer(t, labSocket(t, lab.Receiver, backend), &Server{ReadAhead: readAhead})
					s.dial = func(ctx context.Context, addr string) (b *peer.Burst, err error) {
						err = lab.Sender.Do(func() (err error) {
							b, err = peer.DialBurst(ctx, addr)
							return err
						})
						return b, err
					}
					return s
				}
				var c *orderClient
				dialer := newLabDialer(t, lab.Receiver, backend, func() string { return c.server.Addr() })
				c = newOrderClient(t, labAddr(lab.Sender), &Transport{Dial: dialer.dial, ReadAhead: readAhead}, lab.Sender.Do)
				c.stop = dialer.stop
				return c
			})
			a := playPlansAtOnce(t, receivers, atOnce, hostile.Size(12, 500), false, func(i int) *plan {
				rng := rand.New(rand.NewPCG(orderSeed, uint64(d+1)<<48|uint64(i)))
				return randomPlan(rng, uint64(i), receivers[0].isClient(), false, true)
			})
			a.notes = append(a.notes, labBound(t, lab))
			if err := lab.Close(); err != nil {
				t.Error(err)
			}
			a.report(t, fmt.Sprintf("up to 4 streams and the close over a wire that reorders 30 %%, doubles 10 %% and loses 3 %% (%s; %s)", direction, backendNames(backends)), leaks.leaked(t))
		})
	}
}

// A frameLog is what QUIC has handled of a connection, by frames. It is its tracer.
type frameLog struct {
	mu      sync.Mutex
	streams map[int64]*cameIn
	end     *plannedFrame
	over    bool
}

func newFrameLog() *frameLog { return &frameLog{streams: make(map[int64]*cameIn)} }

func (l *frameLog) AddProducer() qlogwriter.Recorder { return l }
func (l *frameLog) SupportsSchemas(string) bool      { return true }

func (l *frameLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	return nil
}

func (l *frameLog) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range packet.Frames {
		if l.over {
			return
		}
		switch f := f.Frame.(type) {
		case *qlog.StreamFrame:
			l.stream(int64(f.StreamID)).add(int(f.Offset), int(f.Offset+f.Length), f.Fin)
		case *qlog.ResetStreamFrame:
			l.stream(int64(f.StreamID)).cancel(plannedFrame{kind: ofReset, code: uint64(f.ErrorCode)})
		case *qlog.ConnectionCloseFrame:
			l.end = &plannedFrame{kind: ofClose, code: f.ErrorCode, quic: !f.IsApplicationError}
			l.over = true
		}
	}
}

// stream is what has come of one. The caller holds mu.
func (l *frameLog) stream(id int64) *cameIn {
	if l.streams[id] == nil {
		l.streams[id] = &cameIn{}
	}
	return l.streams[id]
}

// cameIn returns what has come of a stream in all, and the close. A packet is reported
// after its frames went to their streams, so that a reader may be ahead of the log.
func (l *frameLog) cameIn(id int64) (cameIn, *plannedFrame) {
	for deadline := time.Now().Add(orderPatience); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		c := *l.stream(id)
		if l.over || c.whole() || time.Now().After(deadline) {
			defer l.mu.Unlock()
			c.have = slices.Clone(c.have)
			return c, l.end
		}
		l.mu.Unlock()
	}
}

// judgeReal holds what came of a real peer's message against what has come of it. Where
// its bytes are not known m has no data, and the head no more than mostHead of them.
func judgeReal(m *plannedMessage, content []byte, log *frameLog, stream int64, got gotMessage, isClient bool) *finding {
	const mostHead = 400
	c, end := log.cameIn(stream)
	switch {
	case c.whole():
		if got.err != nil || !bytes.Equal(got.body, content) {
			return lostFor("%d of %d bytes, of which all have come, and %v", len(got.body), len(content), got.err)
		}
		return nil
	case end == nil && got.err != nil:
		// The close was lost. What follows is silence, or what says that the state is, too.
		var idle *IdleTimeout
		var stateless *StatelessReset
		if !errors.As(got.err, &idle) && !errors.As(got.err, &stateless) || !bytes.HasPrefix(content, got.body) {
			return corruptFor("%d bytes and silence end with %v", len(got.body), got.err)
		}
		return nil
	case m.data != nil:
		return m.judgeHTTP(content, &c, end, got, isClient)
	case len(got.body) > c.prefix() || !bytes.HasPrefix(content, got.body):
		return corruptFor("%d bytes are not a beginning of the %d that have come", len(got.body), c.prefix())
	case len(got.body) < c.prefix()-mostHead:
		return lostFor("%d of %d bytes were delivered", len(got.body), c.prefix())
	case got.err == nil:
		if len(got.body) != len(content) {
			return corruptFor("%d bytes pass for the whole", len(got.body))
		}
		return nil
	}
	return judgeCut(got.err, end, len(got.body), len(content))
}

// messageOf is what is known of a message of a HEADERS frame and a DATA frame.
func messageOf(data []byte, size int) *plannedMessage {
	payload := len(data) - size
	header := len(h3frame.AppendData(nil, make([]byte, size))) - size
	return &plannedMessage{
		data: data, head: payload - header, size: size, want: -1,
		pieces: []piece{{payload, size}}, frames: []frameAt{{payload - header, payload, len(data), false}},
	}
}

// realSize is the size of a real peer's message: from one packet to a few dozens.
func realSize(i int) int { return []int{200, 3000, 40_000}[i%3] + i }

// orderIdle is when a peer is given up whose close was lost: it says nothing any more.
var orderIdle = quic.Config{MaxIdleTimeout: time.Second, KeepAlivePeriod: 100 * time.Millisecond}

// sendPatience is for a peer's handshake and its congestion control, on a wire that loses.
const sendPatience = 10 * time.Second

// realPeersAtOnce is how many connections there are at a time; most wait for the wire.
const realPeersAtOnce = 6

// TestHostileClosingUploadsOverAWire has clients that leave as soon as they have sent: x/net's,
// whose close is behind the FIN, and our own.
func TestHostileClosingUploadsOverAWire(t *testing.T) {
	for _, sender := range []string{"x/net", "tailfin"} {
		t.Run(sender, func(t *testing.T) {
			leaks := beginLeakCheck()
			lab, a := orderLab(t), &orderAccount{}
			conn := labSocket(t, lab.Receiver, udp.Auto)
			addr := conn.LocalAddr().String()
			conf := orderIdle
			conf.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return newFrameLog() }
			server := &Server{TLSConfig: orderTLS(serverTLS(t)), QUICConfig: &conf, Logger: quietLog}
			server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				var id uint64
				var size int
				if _, err := fmt.Sscanf(r.URL.Path, "/numbered/%d/%d", &id, &size); err != nil {
					a.crash(err.Error())
					return
				}
				body := r.Body.(*messageBody)
				got := readerKind(id%uint64(never)).readBody(body, endOf(body))
				m, content := &plannedMessage{}, peer.Numbered(id, size)
				if sender == "x/net" {
					fields := h3frame.RequestFields(h3frame.RequestHead{
						Method: http.MethodPut, Scheme: "https", Authority: addr, Path: r.URL.Path, Header: http.Header{},
					})
					m = messageOf(h3frame.AppendData(h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields)), content), size)
				}
				a.count(got)
				log := body.src.recv.owner.chain.trace.(*frameLog)
				if f := judgeReal(m, content, log, int64(body.src.recv.id), got, false); f != nil {
					a.find(f, r.URL.Path)
				}
			})
			served := make(chan error, 1)
			go func() { served <- server.Serve(conn) }()

			dialer := newLabDialer(t, lab.Sender, udp.Auto, func() string { return addr })
			client := &Transport{Dial: dialer.dial, TLSClientConfig: orderTLS(clientTLS(t)), Logger: quietLog}
			client.TLSClientConfig.ServerName = "localhost"
			each(hostile.Size(9, 300), realPeersAtOnce, func(_, i int) {
				ctx, cancel := context.WithTimeout(t.Context(), sendPatience)
				defer cancel()
				path, body := peer.NumberedPath(uint64(i), realSize(i)), peer.Numbered(uint64(i), realSize(i))
				var err error
				if sender == "x/net" {
					err = lab.Sender.Do(func() error { return peer.PutXNet(ctx, addr, path, body, 0) })
				} else {
					var req *http.Request
					if req, err = http.NewRequestWithContext(ctx, http.MethodPut, "https://"+addr+path, bytes.NewReader(body)); err == nil {
						err = client.SendAndClose(req)
					}
				}
				if err != nil {
					t.Logf("upload %d was not sent: %v", i, err)
					return
				}
				a.mu.Lock()
				a.tries++
				a.mu.Unlock()
			})
			eventually(t, "the server has noticed that all have left", func() bool { return server.Stats().ConnsOpen == 0 })
			_ = client.Close()
			dialer.stop()
			_ = server.Close()
			<-served
			eventually(t, "all requests have ended", func() bool { return server.Stats().RequestsActive == 0 })
			_ = conn.Close()
			a.addDrains(server.DrainStats())
			a.notes = append(a.notes, labBound(t, lab))
			if err := lab.Close(); err != nil {
				t.Error(err)
			}
			a.report(t, "a client that closes at once, over a wire that reorders, doubles and loses ("+sender+")", leaks.leaked(t))
		})
	}
}

// each runs f n times, some at once, each by one of the workers.
func each(n, workers int, f func(worker, i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(worker, i)
			}
		})
	}
	wg.Wait()
}

// frameLogKey is where the context of a request has its frameLogs.
type frameLogKey struct{}

// frameLogs are those of the connections that a request has made: more than one, where
// the first was over before it was sent.
type frameLogs struct {
	mu   sync.Mutex
	list []*frameLog
}

func (l *frameLogs) open() *frameLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, newFrameLog())
	return l.list[len(l.list)-1]
}

func (l *frameLogs) last() *frameLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[len(l.list)-1]
}

// TestHostileClosingServersOverAWire has servers that answer and close: in the packet of the
// FIN, with x/net and with quic-go.
func TestHostileClosingServersOverAWire(t *testing.T) {
	backends := orderBackends(t)
	for _, sender := range []struct {
		name   string
		listen func(addr string, cert tls.Certificate) (at string, stop func(), err error)
	}{
		{"one burst", func(addr string, cert tls.Certificate) (string, func(), error) {
			s, err := peer.ListenBursts(addr, cert, peer.Close{Code: 0x100})
			if err != nil {
				return "", nil, err
			}
			return s.Addr(), func() { _, _ = s.Close() }, nil
		}},
		{"x/net", func(addr string, cert tls.Certificate) (string, func(), error) {
			s, err := peer.ListenXNet(addr, cert, peer.XNetOptions{CloseAfterResponse: true})
			if err != nil {
				return "", nil, err
			}
			return s.Addr(), func() { _ = s.Close() }, nil
		}},
		{"quic-go", func(addr string, cert tls.Certificate) (string, func(), error) {
			s, err := peer.ListenClosing(cert, peer.ClosingOptions{Addr: addr})
			if err != nil {
				return "", nil, err
			}
			return s.Addr(), func() { _ = s.Close() }, nil
		}},
	} {
		t.Run(sender.name, func(t *testing.T) {
			leaks := beginLeakCheck()
			lab, a := orderLab(t), &orderAccount{}
			var at string
			var stop func()
			if err := lab.Sender.Do(func() (err error) {
				at, stop, err = sender.listen(labAddr(lab.Sender), cert(t))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			conf := orderIdle
			conf.Tracer = func(ctx context.Context, _ bool, _ quic.ConnectionID) qlogwriter.Trace {
				return ctx.Value(frameLogKey{}).(*frameLogs).open()
			}
			// x/net's server tells connections apart by the port of the client.
			var dialers [realPeersAtOnce]*labDialer
			var clients [realPeersAtOnce]*Transport
			for i := range clients {
				dialers[i] = newLabDialer(t, lab.Receiver, backends[i%len(backends)], func() string { return at })
				clients[i] = &Transport{
					Dial: dialers[i].dial, TLSClientConfig: orderTLS(clientTLS(t)), QUICConfig: &conf, DisableCompression: true, Logger: quietLog,
				}
				clients[i].TLSClientConfig.ServerName = "localhost"
			}
			each(hostile.Size(9, 300), realPeersAtOnce, func(worker, i int) {
				ctx, cancel := context.WithTimeout(t.Context(), orderPatience)
				defer cancel()
				logs := &frameLogs{}
				id, size := uint64(i), realSize(i)
				url := fmt.Sprintf("https://d%d.test%s", i, peer.NumberedPath(id, size))
				got := fetchOnce(context.WithValue(ctx, frameLogKey{}, logs), clients[worker], url, readerKind(i%int(never)))
				var dial *DialError
				if errors.As(got.err, &dial) {
					t.Logf("download %d had no connection: %v", i, got.err)
					return
				}
				a.mu.Lock()
				a.tries++
				a.mu.Unlock()
				if ctx.Err() != nil {
					a.crash(fmt.Sprintf("download %d is still read", i))
					return
				}
				a.count(got)
				content := peer.Numbered(id, size)
				m := messageOf(peer.ResponseMessage(0, content).Data, size)
				if f := judgeReal(m, content, logs.last(), 0, got, true); f != nil {
					a.find(f, url)
				}
			})
			for i, client := range clients {
				_ = client.Close()
				dialers[i].stop()
				a.addDrains(client.DrainStats())
			}
			stop()
			a.notes = append(a.notes, labBound(t, lab))
			if err := lab.Close(); err != nil {
				t.Error(err)
			}
			a.report(t, "a server that answers and closes at once, over a wire that reorders, doubles and loses ("+sender.name+")", leaks.leaked(t))
		})
	}
}
