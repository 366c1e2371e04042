package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// orderPatience is for what takes milliseconds on a machine that is not busy.
const orderPatience = 30 * time.Second

// A readerKind is how an application reads.
type readerKind int

const (
	eager readerKind = iota
	slow             // in small steps, with pauses
	late             // when the connection is over
	never
	readerKinds int = iota
)

func (k readerKind) String() string {
	return [...]string{"eagerly", "slowly", "late", "never"}[k]
}

// read reads as the kind does; over is closed when the connection is over.
func (k readerKind) read(r io.Reader, over <-chan struct{}) (body []byte, err error) {
	switch k {
	case late:
		<-over
	case slow:
		p := make([]byte, 100)
		for err == nil && len(body) < 20*len(p) {
			var n int
			n, err = r.Read(p)
			body = append(body, p[:n]...)
			runtime.Gosched()
			if len(body)%3 == 0 {
				time.Sleep(20 * time.Microsecond)
			}
		}
	}
	for p := make([]byte, 4<<10); err == nil; {
		var n int
		n, err = r.Read(p)
		body = append(body, p[:n]...)
	}
	if _, again := r.Read(make([]byte, 1)); again != err {
		err = fmt.Errorf("the end is %w first, and then %v", err, again)
	}
	return body, err
}

// openFiles is the number of descriptors of this process, 0 where that is not known.
func openFiles() int {
	list, _ := filepath.Glob("/proc/self/fd/*")
	return len(list)
}

// planNumbers is how many packet numbers a plan has to itself: by them the packets of a
// connection tell which plan it is of.
const planNumbers = 1 << 10

// arrivals knows which packets of plans QUIC has handled.
type arrivals struct {
	mu   sync.Mutex
	logs map[uint64]*arrivalLog
}

func newArrivals() *arrivals { return &arrivals{logs: make(map[uint64]*arrivalLog)} }

// of returns the log of a plan's connection.
func (a *arrivals) of(id uint64) *arrivalLog {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.logs[id]
	if l == nil {
		l = &arrivalLog{closed: make(chan struct{})}
		a.logs[id] = l
	}
	return l
}

func (a *arrivals) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.logs, id)
}

// config returns conf with a tracer that keeps the logs.
func (a *arrivals) config(conf quic.Config) *quic.Config {
	conf.Tracer = func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return &arrivalTrace{all: a} }
	return &conf
}

// An arrivalLog is what QUIC has handled of a plan.
type arrivalLog struct {
	closed chan struct{} // when a CONNECTION_CLOSE was handled, or we have left

	mu      sync.Mutex
	over    bool
	numbers []int // of packets, in the order in which they were handled
}

// An arrivalTrace is the tracer of a connection. quic-go reports packets that it has
// handled on the run loop, those that it drops otherwise.
type arrivalTrace struct {
	all *arrivals
	log *arrivalLog // nil until a packet of a plan has come; of the run loop
}

func (a *arrivalTrace) AddProducer() qlogwriter.Recorder { return a }
func (a *arrivalTrace) SupportsSchemas(string) bool      { return true }

// Close is the end of the connection, perhaps by our own doing.
func (a *arrivalTrace) Close() error {
	if l := a.log; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.end()
	}
	return nil
}

func (a *arrivalTrace) RecordEvent(ev qlogwriter.Event) {
	packet, ok := ev.(qlog.PacketReceived)
	if !ok || packet.Header.PacketType != qlog.PacketType1RTT || packet.Header.PacketNumber < peer.FirstNumber {
		return
	}
	n := uint64(packet.Header.PacketNumber - peer.FirstNumber)
	if a.log == nil {
		a.log = a.all.of(n / planNumbers)
	}
	l := a.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.numbers = append(l.numbers, int(n%planNumbers))
	for _, f := range packet.Frames {
		if _, ok := f.Frame.(*qlog.ConnectionCloseFrame); ok {
			l.end()
			return
		}
	}
}

// end is the end of what counts. The caller holds mu.
func (l *arrivalLog) end() {
	if !l.over {
		l.over = true
		close(l.closed)
	}
}

// handled returns the packets, once no more can come.
func (l *arrivalLog) handled(t *testing.T) ([]int, error) {
	select {
	case <-l.closed:
	case <-time.After(orderPatience):
		return nil, errors.New("no close has arrived")
	case <-t.Context().Done():
		return nil, t.Context().Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.numbers, nil
}

// An orderReceiver is our side of a plan's connection.
type orderReceiver interface {
	// run has a peer play the plan on a connection, and returns what the application got
	// of each message, once the model has said for which of them it is to be waited.
	run(t *testing.T, id uint64, p *plan, wait func() ([]bool, error)) ([]gotMessage, error)
	isClient() bool
	arrived() *arrivals
	// finish stops it. What is handed out later, or twice, counts as corrupt.
	finish(t *testing.T) (stats DrainStats, corrupt int)
}

// orderTLS is of the cheapest handshake.
func orderTLS(conf *tls.Config) *tls.Config {
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	return conf
}

// An orderRun is a plan under way.
type orderRun struct {
	plan *plan
	got  []chan gotMessage // of each message, with room for one too many
}

func newOrderRun(p *plan) *orderRun {
	r := &orderRun{plan: p}
	for range p.messages {
		r.got = append(r.got, make(chan gotMessage, 2))
	}
	return r
}

func (r *orderRun) deliver(i int, got gotMessage) {
	select {
	case r.got[i] <- got:
	default: // the third time: twice is bad enough
	}
}

// collect waits for what is to come, and takes what else has.
func (r *orderRun) collect(wait []bool, patience time.Duration) []gotMessage {
	list := make([]gotMessage, len(r.got))
	timeout := time.After(patience)
	for i, ch := range r.got {
		if !wait[i] {
			select {
			case list[i] = <-ch:
			default:
			}
			continue
		}
		select {
		case list[i] = <-ch:
		case <-timeout:
			list[i].hung = true
		}
	}
	return list
}

// late is the number of messages that have come since, and should not have.
func (r *orderRun) late() (n int) {
	for i, ch := range r.got {
		if r.plan.readers[i] != never && !r.plan.resets(i) {
			n += len(ch)
		}
	}
	return n
}

func (k readerKind) readBody(body io.ReadCloser, over <-chan struct{}) gotMessage {
	got := gotMessage{calls: 1}
	if k == never {
		got.unread = true
		return got
	}
	got.body, got.err = k.read(body, over)
	if got.err == io.EOF {
		got.err = nil
	}
	return got
}

// endOf is closed when the connection of a body is over.
func endOf(body io.ReadCloser) <-chan struct{} {
	var src *messageSource
	switch b := body.(type) {
	case *messageBody:
		src = b.src
	case *responseBody:
		src = b.src
	}
	return src.recv.owner.conn.(*quic.Conn).Context().Done()
}

// An orderServer is a Server, to which bursts upload.
type orderServer struct {
	logs     *arrivals
	conn     *udp.Conn
	server   *Server
	served   chan error
	patience time.Duration
	dial     func(ctx context.Context, addr string) (*peer.Burst, error)

	mu   sync.Mutex
	runs map[uint64]*orderRun
}

func newOrderServer(t *testing.T, conn *udp.Conn, server *Server) *orderServer {
	s := &orderServer{
		logs: newArrivals(), conn: conn, server: server, served: make(chan error, 1),
		runs: make(map[uint64]*orderRun), dial: peer.DialBurst, patience: orderPatience,
	}
	server.Handler = http.HandlerFunc(s.serve)
	server.TLSConfig = orderTLS(serverTLS(t))
	server.QUICConfig = s.logs.config(quic.Config{})
	server.Logger = quietLog
	go func() { s.served <- s.server.Serve(conn) }()
	return s
}

func (s *orderServer) isClient() bool     { return false }
func (s *orderServer) arrived() *arrivals { return s.logs }

// orderPath is the path of a plan's message.
func orderPath(id uint64, message int) string { return fmt.Sprintf("/%d/%d", id, message) }

func parseOrderPath(path string) (id uint64, message int, err error) {
	_, err = fmt.Sscanf(path, "/%d/%d", &id, &message)
	return id, message, err
}

func (s *orderServer) serve(_ http.ResponseWriter, r *http.Request) {
	id, i, err := parseOrderPath(r.URL.Path)
	if err != nil {
		return
	}
	s.mu.Lock()
	run := s.runs[id]
	s.mu.Unlock()
	if run == nil {
		return
	}
	run.deliver(i, run.plan.readers[i].readBody(r.Body, endOf(r.Body)))
}

func (s *orderServer) run(t *testing.T, id uint64, p *plan, wait func() ([]bool, error)) ([]gotMessage, error) {
	run := newOrderRun(p)
	s.mu.Lock()
	s.runs[id] = run
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), orderPatience)
	defer cancel()
	b, err := s.dial(ctx, s.conn.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if err := b.Play(p.encode(uint32(id*planNumbers), clientStreams(p))); err != nil {
		return nil, err
	}
	waits, err := wait()
	if err != nil {
		return nil, err
	}
	return run.collect(waits, s.patience), nil
}

// clientStreams are the IDs of the streams that a client opens for the messages. Its
// control stream is the first unidirectional one.
func clientStreams(p *plan) []int64 {
	bidi, uni := int64(0), int64(6)
	return streamsOf(p, bidi, uni)
}

func streamsOf(p *plan, bidi, uni int64) []int64 {
	ids := make([]int64, len(p.messages))
	for i, m := range p.messages {
		next := &bidi
		if m.uni {
			next = &uni
		}
		if m.id != 0 {
			ids[i] = m.id
			continue
		}
		ids[i] = *next
		*next += 4
	}
	return ids
}

func (s *orderServer) finish(t *testing.T) (stats DrainStats, corrupt int) {
	_ = s.server.Close()
	if err := <-s.served; !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	eventually(t, "all requests have ended", func() bool { return s.server.Stats().RequestsActive == 0 })
	want(t, s.server.Stats().ConnsOpen, 0)
	want(t, s.server.Stats().Panics, 0)
	_ = s.conn.Close()
	for _, run := range s.runs {
		corrupt += run.late()
	}
	return s.server.DrainStats(), corrupt
}

// An orderClient is a Transport, which fetches from a server that plays.
type orderClient struct {
	logs   *arrivals
	client *Transport
	server *peer.BurstServer
	stop   func() // what else is its own; may be nil

	mu   sync.Mutex
	runs map[uint64]*orderRun
}

// loopbackNames resolves any name.
type loopbackNames struct{}

func (loopbackNames) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
}

// newOrderClient has the peer listen where in runs what it is given.
func newOrderClient(t *testing.T, addr string, client *Transport, in func(func() error) error) *orderClient {
	c := &orderClient{logs: newArrivals(), client: client, runs: make(map[uint64]*orderRun)}
	client.TLSClientConfig = orderTLS(clientTLS(t))
	client.TLSClientConfig.ServerName = "localhost"
	client.QUICConfig = c.logs.config(quic.Config{})
	client.DisableCompression = true
	client.Logger = quietLog
	if err := in(func() (err error) {
		c.server, err = peer.ListenPlays(addr, cert(t), c.requests, c.play)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *orderClient) isClient() bool     { return true }
func (c *orderClient) arrived() *arrivals { return c.logs }

func (c *orderClient) runOf(path string) (run *orderRun, id uint64, message int) {
	id, message, err := parseOrderPath(path)
	if err != nil {
		return nil, 0, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[id], id, message
}

// requests is how many come on the connection whose first one has that path.
func (c *orderClient) requests(path string) (n int) {
	run, _, _ := c.runOf(path)
	if run == nil {
		return 1
	}
	for _, m := range run.plan.messages {
		if !m.uni {
			n++
		}
	}
	return n
}

func (c *orderClient) play(asked []peer.Asked) []peer.Volley {
	run, id, _ := c.runOf(asked[0].Path)
	if run == nil {
		return nil
	}
	ids := streamsOf(run.plan, 0, 7)
	for _, a := range asked {
		_, _, message := c.runOf(a.Path)
		ids[message] = a.StreamID
	}
	return run.plan.encode(uint32(id*planNumbers), ids)
}

func (c *orderClient) run(t *testing.T, id uint64, p *plan, wait func() ([]bool, error)) ([]gotMessage, error) {
	run := newOrderRun(p)
	c.mu.Lock()
	c.runs[id] = run
	c.mu.Unlock()
	// A name for each connection, so that it is not shared.
	_, port, err := net.SplitHostPort(c.server.Addr())
	if err != nil {
		return nil, err
	}
	authority := fmt.Sprintf("p%d.test:%s", id, port)
	ctx, cancel := context.WithTimeout(t.Context(), orderPatience)
	defer cancel()
	var wg sync.WaitGroup
	for i, m := range p.messages {
		if m.uni {
			continue
		}
		wg.Go(func() { run.deliver(i, fetchOnce(ctx, c.client, "https://"+authority+orderPath(id, i), p.readers[i])) })
	}
	waits, err := wait()
	if err != nil {
		return nil, err
	}
	for i, m := range p.messages {
		waits[i] = !m.uni // a request has an end whatever has come
	}
	list := run.collect(waits, orderPatience)
	cancel() // those that hang
	wg.Wait()
	return list, nil
}

// fetchOnce sends a request, on a connection of its own if the name is, and reads the
// answer. A second try would be another connection.
func fetchOnce(ctx context.Context, client *Transport, url string, reader readerKind) gotMessage {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return gotMessage{err: err}
	}
	try, err := client.newTry(req)
	if err != nil {
		return gotMessage{err: err}
	}
	resp, err := client.once(try)
	if err != nil {
		return gotMessage{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	return reader.readBody(resp.Body, endOf(resp.Body))
}

func (c *orderClient) finish(t *testing.T) (stats DrainStats, corrupt int) {
	_ = c.client.Close()
	c.client.mu.Lock()
	conns := len(c.client.conns)
	c.client.mu.Unlock()
	want(t, conns, 0)
	if _, err := c.server.Close(); err != nil {
		t.Errorf("the peer could not play: %v", err)
	}
	if c.stop != nil {
		c.stop()
	}
	for _, run := range c.runs {
		corrupt += run.late()
	}
	return c.client.DrainStats(), corrupt
}

// An orderStreams is a barrier alone, under an application that takes bare streams of
// both kinds as they are.
type orderStreams struct {
	logs     *arrivals
	conn     *udp.Conn
	tr       *quic.Transport
	ln       *quic.Listener
	drain    drainOptions
	counters drainCounters
}

func newOrderStreams(t *testing.T, conn *udp.Conn, readAhead int) *orderStreams {
	s := &orderStreams{logs: newArrivals(), conn: conn, tr: &quic.Transport{Conn: conn}}
	s.drain = drainOptions{counters: &s.counters, readAhead: readAhead}
	var err error
	if s.ln, err = s.tr.Listen(orderTLS(serverTLS(t)), s.drain.install(s.logs.config(quic.Config{}))); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *orderStreams) isClient() bool     { return false }
func (s *orderStreams) arrived() *arrivals { return s.logs }

func (s *orderStreams) run(t *testing.T, id uint64, p *plan, wait func() ([]bool, error)) ([]gotMessage, error) {
	ctx, cancel := context.WithTimeout(t.Context(), orderPatience)
	defer cancel()
	accepted := make(chan *quic.Conn, 1)
	go func() {
		if conn, err := s.ln.Accept(ctx); err == nil {
			accepted <- conn
		}
	}()
	b, err := peer.DialBurst(ctx, s.conn.LocalAddr().String())
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var conn *quic.Conn
	select {
	case conn = <-accepted:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	run, ids := newOrderRun(p), clientStreams(p)
	bar := barrierOf(conn, false, s.drain)
	over := conn.Context().Done()
	var wg sync.WaitGroup
	take := func(recv *recvStream) {
		i := slices.Index(ids, int64(recv.id))
		if i < 0 {
			return // the control stream
		}
		wg.Go(func() {
			got := gotMessage{calls: 1, unread: p.readers[i] == never}
			if !got.unread {
				got.body, got.err = p.readers[i].read(recv, over)
			}
			run.deliver(i, got)
		})
	}
	accept := func(next func(context.Context) (*recvStream, error)) {
		if p.readers[0] == late {
			<-over // whoever accepts comes before what is sent, or when all is over
		}
		for {
			recv, err := next(context.Background())
			if err != nil {
				return
			}
			take(recv)
		}
	}
	wg.Go(func() {
		accept(func(ctx context.Context) (*recvStream, error) {
			str, err := bar.acceptStream(ctx)
			return str.recv, err
		})
	})
	wg.Go(func() { accept(bar.acceptUniStream) })
	var waits []bool
	if err = b.Play(p.encode(uint32(id*planNumbers), ids)); err == nil {
		waits, err = wait()
	}
	if err != nil {
		_ = conn.CloseWithError(0, "")
		wg.Wait()
		return nil, err
	}
	list := run.collect(waits, orderPatience)
	select {
	case <-over:
	case <-ctx.Done():
		_ = conn.CloseWithError(0, "")
	}
	wg.Wait() // all that was handed out has been read
	for i, ch := range run.got {
		select {
		case got := <-ch:
			if list[i].calls++; list[i].calls == 1 {
				list[i] = got
			}
		default:
		}
	}
	return list, nil
}

func (s *orderStreams) finish(*testing.T) (stats DrainStats, corrupt int) {
	_ = s.ln.Close()
	_ = s.tr.Close()
	_ = s.conn.Close()
	return s.counters.snapshot(), 0
}
