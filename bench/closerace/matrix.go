package closerace

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// A Shape is what a sender sends before it closes.
type Shape struct {
	Name    string
	Body    int           // bytes of each message
	Streams int           // messages
	Uni     int           // bytes on a unidirectional stream before them, 0 for none
	Slow    time.Duration // how long the application waits until it reads
	Apart   bool          // CONNECTION_CLOSE in a packet of its own
}

// Shapes are the shapes of the matrix.
var Shapes = []Shape{
	{Name: "one packet", Body: 500, Streams: 1},
	{Name: "one batch", Body: 9000, Streams: 1, Apart: true},
	{Name: "200 kB", Body: 200_000, Streams: 1},
	{Name: "reader slow by 300 ms", Body: 9000, Streams: 1, Slow: 300 * time.Millisecond},
	{Name: "unaccepted uni stream", Body: 2000, Streams: 1, Uni: 2000},
	{Name: "200 streams", Body: 300, Streams: 200},
}

// A CloseKind is a way to close.
type CloseKind struct {
	Name  string
	Close peer.Close
}

// CloseKinds are the ways of the matrix: H3_NO_ERROR, H3_INTERNAL_ERROR, and
// INTERNAL_ERROR of the transport.
var CloseKinds = []CloseKind{
	{"0x100", peer.Close{Code: 0x100}},
	{"0x102", peer.Close{Code: 0x102}},
	{"transport", peer.Close{Code: 0x1, Transport: true}},
}

// MatrixConfig says how to run the matrix.
type MatrixConfig struct {
	// Iterations is the number of connections a cell.
	Iterations int
	// Backend reads the datagrams on our side.
	Backend udp.Backend
	// DisableDrain leaves quic-go as it is.
	DisableDrain bool
	// Certificate is what the servers show. The clients trust any.
	Certificate tls.Certificate
	// Progress, if set, is called after each cell.
	Progress func(MatrixCell)
}

// A MatrixCell counts messages of one direction, shape and close.
type MatrixCell struct {
	Scenario   string `json:"scenario"`  // racematrix
	Direction  string `json:"direction"` // upload or download, as a client sees it
	Shape      string `json:"shape"`
	Close      string `json:"close"`
	Drain      string `json:"drain"` // on or off
	Backend    string `json:"backend"`
	Iterations int    `json:"iterations"`
	Sent       int    `json:"sent"`     // messages
	Received   int    `json:"received"` // of them whole, says quic-go
	Whole      int    `json:"whole"`    // of them whole, says the application
	Lost       int    `json:"lost"`     // received whole and not delivered so
	// LostBytes are bytes of bodies that quic-go had received and put in order,
	// and the application did not get.
	LostBytes int64 `json:"lost_bytes"`
	// SavedBytes is what the barrier took out of streams at a close.
	SavedBytes uint64 `json:"saved_bytes"`
	// TimedOut is the number of drains that gave up.
	TimedOut uint64 `json:"timed_out"`
}

// Fine tells that the cell lost nothing.
func (c MatrixCell) Fine() bool { return c.Lost == 0 && c.LostBytes <= 0 && c.TimedOut == 0 }

// Matrix runs every direction, shape and close. The sender makes its last
// packets itself (peer.Burst), so that a close stands in the very packet or
// batch of the last bytes.
func Matrix(ctx context.Context, conf MatrixConfig) ([]MatrixCell, error) {
	var cells []MatrixCell
	for _, direction := range []struct {
		name string
		make func(MatrixConfig, *raceCount) (raceReceiver, error)
	}{{"upload", newRaceServer}, {"download", newRaceClient}} {
		for _, shape := range Shapes {
			for _, end := range CloseKinds {
				cell := MatrixCell{
					Scenario: "racematrix", Direction: direction.name, Shape: shape.Name, Close: end.Name,
					Drain: "on", Iterations: conf.Iterations, Sent: conf.Iterations * shape.Streams,
				}
				if conf.DisableDrain {
					cell.Drain = "off"
				}
				end.Close.Apart = shape.Apart
				count := newRaceCount(shape, end.Close)
				receiver, err := direction.make(conf, count)
				if err == nil {
					err = runMatrixCell(ctx, conf, shape, receiver)
					receiver.finish(&cell)
				}
				if err != nil {
					return cells, fmt.Errorf("%s, %s, close %s: %w", direction.name, shape.Name, end.Name, err)
				}
				count.result(&cell)
				cells = append(cells, cell)
				if conf.Progress != nil {
					conf.Progress(cell)
				}
			}
		}
	}
	return cells, nil
}

// maxSlow is how many connections are open at once where readers wait.
const maxSlow = 20

// runMatrixCell runs the iterations of a cell: in turn, so that one has the
// processors to itself, but side by side where most of the time is waiting.
func runMatrixCell(ctx context.Context, conf MatrixConfig, shape Shape, receiver raceReceiver) error {
	workers := 1
	if shape.Slow > 0 {
		workers = maxSlow
	}
	jobs := make(chan struct{})
	errs := make(chan error, workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range jobs {
				ctx, cancel := context.WithTimeout(ctx, raceTimeout)
				err := receiver.run(ctx)
				cancel()
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < conf.Iterations && err == nil; i++ {
		select {
		case jobs <- struct{}{}:
		case err = <-errs:
		}
	}
	close(jobs)
	wg.Wait()
	select {
	case err = <-errs:
	default:
	}
	return err
}

// raceTimeout bounds one connection of the matrix.
const raceTimeout = 10 * time.Second

// A raceReceiver is our side of a cell.
type raceReceiver interface {
	// run has a sender make one connection.
	run(ctx context.Context) error
	// finish stops our side and fills in what it knows.
	finish(cell *MatrixCell)
}

// A raceCount is the two accounts of a cell: of quic-go and of the application.
type raceCount struct {
	shape Shape
	close peer.Close
	body  []byte
	wire  received

	progress chan struct{} // capacity 1; something was delivered, or given up

	mu        sync.Mutex
	ended     int // messages that the application is done with
	delivered int // of them whole
	bytes     int64
}

func newRaceCount(shape Shape, end peer.Close) *raceCount {
	return &raceCount{shape: shape, close: end, body: peer.Pattern(shape.Body), progress: make(chan struct{}, 1)}
}

// read reads a body as the application of this cell does.
func (c *raceCount) read(ctx context.Context, r io.Reader) {
	if c.shape.Slow > 0 {
		select {
		case <-time.After(c.shape.Slow):
		case <-ctx.Done():
		}
	}
	body, err := io.ReadAll(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended++
	if bytes.HasPrefix(c.body, body) {
		c.bytes += int64(len(body))
		if err == nil && len(body) == len(c.body) {
			c.delivered++
		}
	}
	select {
	case c.progress <- struct{}{}:
	default:
	}
}

func (c *raceCount) messages(ids []int64, encode func(id int64, body []byte) peer.Message) []peer.Message {
	list := []peer.Message{}
	for _, id := range ids {
		list = append(list, encode(id, c.body))
	}
	return list
}

func (c *raceCount) result(cell *MatrixCell) {
	whole, size := c.wire.counts()
	c.mu.Lock()
	defer c.mu.Unlock()
	cell.Received, cell.Whole = whole, c.delivered
	cell.Lost = max(0, whole-c.delivered)
	cell.LostBytes = size - c.bytes
}

// A raceServer is our Server, to which a Burst uploads.
type raceServer struct {
	*raceCount
	conn     *udp.Conn
	server   *tailfin.Server
	served   chan struct{} // closed when Serve has returned
	patience time.Duration
	expect   int // messages sent so far; guarded by mu
}

// racePath is the path of every request: it must not change in length.
const racePath = "/race"

func newRaceServer(conf MatrixConfig, count *raceCount) (raceReceiver, error) {
	count.wire.overhead = int64(len(peer.RequestMessage(0, racePath, count.body).Data) - len(count.body))
	conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(conf.Backend))
	if err != nil {
		return nil, err
	}
	s := &raceServer{raceCount: count, conn: conn, served: make(chan struct{}), patience: lossPatience}
	if conf.DisableDrain {
		s.patience = stockPatience
	}
	s.server = &tailfin.Server{
		Handler:      http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { count.read(context.Background(), r.Body) }),
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{conf.Certificate}, MinVersion: tls.VersionTLS13},
		QUICConfig:   count.wire.config(&quic.Config{MaxIncomingStreams: int64(2 * count.shape.Streams)}),
		DisableDrain: conf.DisableDrain,
		Logger:       quiet(),
	}
	go func() {
		_ = s.server.Serve(conn) // until finish
		close(s.served)
	}()
	return s, nil
}

// How long a message may take from being sent to being delivered before it
// counts as lost. Stock loses many, and is not waited for as long.
const (
	lossPatience  = 5 * time.Second
	stockPatience = 100 * time.Millisecond
)

func (s *raceServer) run(ctx context.Context) error {
	b, err := peer.DialBurst(ctx, s.conn.LocalAddr().String())
	if err != nil {
		return err
	}
	defer b.Close()
	ids := make([]int64, s.shape.Streams)
	for i := range ids {
		ids[i] = int64(4 * i)
	}
	messages := s.messages(ids, func(id int64, body []byte) peer.Message { return peer.RequestMessage(id, racePath, body) })
	if s.shape.Uni > 0 {
		messages = append([]peer.Message{peer.UniMessage(true, s.shape.Uni)}, messages...)
	}
	s.mu.Lock()
	s.expect += len(ids)
	want := s.expect
	s.mu.Unlock()
	if err := b.Send(messages, s.close); err != nil {
		return err
	}
	if s.shape.Slow == 0 {
		s.wait(ctx, want)
	}
	return nil
}

// wait returns when n messages have ended, or none does any more.
func (s *raceServer) wait(ctx context.Context, n int) {
	for {
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		if ended >= n {
			return
		}
		select {
		case <-s.progress:
		case <-time.After(s.shape.Slow + s.patience):
			// What is lost will not come: do not wait for it again.
			s.mu.Lock()
			s.expect = s.ended
			s.mu.Unlock()
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *raceServer) finish(cell *MatrixCell) {
	s.wait(context.Background(), s.expect)
	_ = s.server.Close()
	<-s.served
	s.wire.wait()
	stats := s.server.DrainStats()
	cell.SavedBytes, cell.TimedOut, cell.Backend = stats.Bytes, stats.TimedOut, s.conn.Backend().String()
	_ = s.conn.Close()
}

// A raceClient is our Transport, which fetches from a Burst.
type raceClient struct {
	*raceCount
	cert   tls.Certificate
	client *tailfin.Transport
}

func newRaceClient(conf MatrixConfig, count *raceCount) (raceReceiver, error) {
	count.wire.overhead = int64(len(peer.ResponseMessage(0, count.body).Data) - len(count.body))
	return &raceClient{raceCount: count, cert: conf.Certificate, client: &tailfin.Transport{
		TLSClientConfig: trusting(),
		QUICConfig:      count.wire.config(&quic.Config{}),
		ListenOptions:   []udp.Option{udp.WithBackend(conf.Backend)},
		DisableDrain:    conf.DisableDrain,
		Logger:          quiet(),
	}}, nil
}

func (c *raceClient) run(ctx context.Context) error {
	ln, err := peer.ListenBurst(c.cert)
	if err != nil {
		return err
	}
	defer ln.Close()
	answered := make(chan error, 1)
	go func() { answered <- c.answer(ctx, ln) }()
	url := "https://" + ln.Addr() + racePath
	var wg sync.WaitGroup
	for range c.shape.Streams {
		wg.Go(func() { c.fetch(ctx, url) })
	}
	err = <-answered
	wg.Wait()
	return err
}

// answer sends every answer at once, and closes.
func (c *raceClient) answer(ctx context.Context, ln *peer.BurstListener) error {
	b, ids, err := ln.Accept(ctx, c.shape.Streams)
	if err != nil {
		return err
	}
	messages := c.messages(ids, peer.ResponseMessage)
	if c.shape.Uni > 0 {
		messages = append([]peer.Message{peer.UniMessage(false, c.shape.Uni)}, messages...)
	}
	return b.Send(messages, c.close)
}

func (c *raceClient) fetch(ctx context.Context, url string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	resp, err := c.client.RoundTrip(req)
	if err != nil {
		return // what it has lost shows in the counts
	}
	defer func() { _ = resp.Body.Close() }()
	c.read(ctx, resp.Body)
}

func (c *raceClient) finish(cell *MatrixCell) {
	stats := c.client.DrainStats()
	cell.SavedBytes, cell.TimedOut, cell.Backend = stats.Bytes, stats.TimedOut, c.client.Backend().String()
	_ = c.client.Close()
	c.wire.wait()
}

// PrintMatrix writes the cells as a table.
func PrintMatrix(w io.Writer, cells []MatrixCell) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "direction\tshape\tclose\tdrain\treader\tconnections\tsent\treceived\twhole\tlost\tlost bytes\tsaved bytes")
	for _, c := range cells {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Direction, c.Shape, c.Close, c.Drain, c.Backend,
			c.Iterations, c.Sent, c.Received, c.Whole, c.Lost, c.LostBytes, c.SavedBytes)
	}
	return t.Flush()
}
