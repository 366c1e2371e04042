package tailfin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

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
