package tailfin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/peer"
)

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
	eventually(t, "no connection is kept", func() bool {
		c.client.mu.Lock()
		defer c.client.mu.Unlock()
		return len(c.client.conns) == 0
	})
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
