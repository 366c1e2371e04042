package tailfin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// noGoAway is the limit of a connection that has not seen a GOAWAY.
const noGoAway = math.MaxUint64

// An h3conn is what both ends of an HTTP/3 connection share: the control
// streams, SETTINGS, GOAWAY, and the way a connection fails.
type h3conn struct {
	quic     *quic.Conn
	barrier  *barrier
	isClient bool
	log      *slog.Logger

	control *quic.SendStream // ours; written under controlMu
	ctrlMu  sync.Mutex
	sent    uint64 // our last GOAWAY, noGoAway before it; under ctrlMu

	mu       sync.Mutex
	uni      h3frame.UniStreams // that the peer has opened
	settings h3frame.Settings   // the peer's; valid once settingsSeen is closed
	goAway   uint64             // the peer's last GOAWAY, noGoAway before it

	settingsSeen chan struct{} // closed at the peer's SETTINGS, which come once
	datagrams    *datagramMux  // nil without HTTP datagrams; set before streams are served

	wasted func(frames uint64) // told of what brings nothing; may be nil; set before streams are served

	goAwayOnce sync.Once
	goAwaySeen chan struct{} // closed at the peer's first GOAWAY

	// What a client does with them; set before acceptUniStreams, may be nil.
	onSettings func(h3frame.Settings) error // its error ends the connection
	onGoAway   func()                       // at each GOAWAY, goAway being set
}

func newH3Conn(conn *quic.Conn, isClient bool, opts drainOptions, log *slog.Logger) *h3conn {
	return &h3conn{
		quic:         conn,
		barrier:      barrierOf(conn, isClient, opts),
		isClient:     isClient,
		log:          log,
		uni:          h3frame.UniStreams{Client: isClient},
		goAway:       noGoAway,
		sent:         noGoAway,
		settingsSeen: make(chan struct{}),
		goAwaySeen:   make(chan struct{}),
	}
}

// open sends our SETTINGS on our control stream (RFC 9114 §6.2.1).
func (c *h3conn) open(settings h3frame.Settings) error {
	str, err := c.quic.OpenUniStream()
	if err != nil {
		return fmt.Errorf("open control stream: %w", err)
	}
	b := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	b = h3frame.AppendSettings(b, settings)
	c.ctrlMu.Lock()
	defer c.ctrlMu.Unlock()
	c.control = str
	if _, err := str.Write(b); err != nil {
		return fmt.Errorf("send SETTINGS: %w", err)
	}
	return nil
}

// sendGoAway tells the peer which requests will still be answered: a server
// gives the first stream ID that will not be (RFC 9114 §5.2). The ID must never
// rise: one that would is not sent.
func (c *h3conn) sendGoAway(id uint64) error {
	c.ctrlMu.Lock()
	defer c.ctrlMu.Unlock()
	if c.control == nil || id >= c.sent {
		return nil
	}
	c.sent = id
	_, err := c.control.Write(h3frame.AppendGoAway(nil, id))
	return err
}

// closing tells that the peer's CONNECTION_CLOSE or GOAWAY has arrived, or
// that the connection is over: no request may be started on it.
func (c *h3conn) closing() bool {
	if c.barrier.closing.Load() || c.quic.Context().Err() != nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goAway != noGoAway
}

// goAwayReceived tells that the peer has sent a GOAWAY.
func (c *h3conn) goAwayReceived() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goAway != noGoAway
}

// refused tells that the peer's GOAWAY says it did not and will not process
// the request on stream id.
func (c *h3conn) refused(id quic.StreamID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(id) >= c.goAway
}

// acceptUniStreams serves the peer's unidirectional streams until the
// connection is over and every one of them is read to its end.
func (c *h3conn) acceptUniStreams() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		recv, err := c.barrier.acceptUniStream(context.Background())
		if err != nil {
			return
		}
		wg.Go(func() {
			if err := c.serveUniStream(recv); err != nil {
				c.fail(err)
			}
		})
	}
}

// serveUniStream reads the stream's type (RFC 9114 §6.2) and what follows.
func (c *h3conn) serveUniStream(recv *recvStream) error {
	v, err := readVarint(recv)
	if err != nil {
		return nil // ended before it said what it was, which §6.2 permits
	}
	typ := h3frame.StreamType(v)
	if err := c.opened(typ); err != nil {
		return err
	}
	switch typ {
	case h3frame.StreamControl:
		return c.serveControl(recv)
	case h3frame.StreamQPACKEncoder, h3frame.StreamQPACKDecoder:
		return serveQPACK(recv, typ)
	case h3frame.StreamPush:
		return c.servePush(recv)
	default:
		if c.wasted != nil {
			c.wasted(1)
		}
		recv.CancelRead(h3frame.ErrCodeStreamCreation)
		return nil
	}
}

// opened holds a stream against those that the peer has opened before.
func (c *h3conn) opened(t h3frame.StreamType) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uni.Open(t)
}

// servePush refuses a push, of which we allow none.
func (c *h3conn) servePush(recv *recvStream) error {
	id, err := readVarint(recv)
	if err != nil {
		return nil // ended before it said which, and harms nobody
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uni.OpenPush(id, 0)
}

// serveControl reads SETTINGS and GOAWAY from the peer's control stream.
func (c *h3conn) serveControl(recv *recvStream) error {
	role := h3frame.ClientControlStream
	if c.isClient {
		role = h3frame.ServerControlStream
	}
	src := newFrameSource(recv, role)
	src.wasted = c.wasted
	defer src.release()
	for {
		f, err := src.next()
		if err != nil {
			return c.controlEnd(err)
		}
		if c.wasted != nil {
			c.wasted(1)
		}
		switch f.Type {
		case h3frame.FrameSettings:
			if err := c.gotSettings(f.Payload); err != nil {
				return err
			}
		case h3frame.FrameGoAway:
			id, err := h3frame.ParseGoAway(f.Payload)
			if err != nil {
				return err
			}
			c.gotGoAway(id)
		}
	}
}

// gotSettings keeps the peer's SETTINGS. The decoder lets none come twice.
func (c *h3conn) gotSettings(payload []byte) error {
	settings, err := h3frame.ParseSettings(payload)
	if err != nil {
		return err
	}
	if settings.H3Datagram && !c.quic.ConnectionState().SupportsDatagrams.Remote {
		// RFC 9297 §2.1.1
		return connError(h3frame.ErrCodeSettings, "HTTP datagrams without QUIC datagrams")
	}
	c.mu.Lock()
	c.settings = settings
	c.mu.Unlock()
	close(c.settingsSeen)
	if c.onSettings != nil {
		return c.onSettings(settings)
	}
	return nil
}

func (c *h3conn) peerSettings() h3frame.Settings {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settings
}

// serveDatagrams hands out datagrams until the connection is over.
func (c *h3conn) serveDatagrams() {
	if err := c.datagrams.receive(); err != nil {
		c.fail(err)
	}
}

// controlEnd tells a control stream that broke the rules from one that ended
// with its connection.
func (c *h3conn) controlEnd(err error) error {
	var frameErr *h3frame.FrameError
	if errors.As(err, &frameErr) {
		return err
	}
	return nil
}

// gotGoAway keeps the peer's GOAWAY (RFC 9114 §5.2).
func (c *h3conn) gotGoAway(id uint64) {
	c.mu.Lock()
	c.goAway = id
	c.mu.Unlock()
	c.goAwayOnce.Do(func() { close(c.goAwaySeen) })
	if c.onGoAway != nil {
		c.onGoAway()
	}
}

// serveQPACK holds a QPACK stream against the dynamic table of no capacity that we
// announce (RFC 9204 §5).
func serveQPACK(recv *recvStream, typ h3frame.StreamType) error {
	stream := h3frame.NewQPACKStream(typ)
	buf := make([]byte, 64) // peers send a few bytes a request, or none
	for {
		n, err := recv.Read(buf)
		if err := stream.Feed(buf[:n]); err != nil {
			return err
		}
		var reset *quic.StreamError
		switch {
		case errors.Is(err, io.EOF), errors.As(err, &reset):
			return stream.Finish(err)
		case err != nil:
			return nil // the connection is over
		}
	}
}

// handshakeDone tells that the handshake is complete, and no early data can come
// any more.
func (c *h3conn) handshakeDone() bool {
	select {
	case <-c.quic.HandshakeComplete():
		return true
	default:
		return false
	}
}

// closeNoError closes a connection in good order.
func closeNoError(conn *quic.Conn) {
	_ = conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
}

// fail closes the connection for a violation by the peer.
func (c *h3conn) fail(err error) {
	var frameErr *h3frame.FrameError
	if !errors.As(err, &frameErr) {
		return
	}
	c.log.Warn("closing connection: the peer broke HTTP/3",
		"peer", c.quic.RemoteAddr().String(), "code", frameErr.Code.String(), "reason", frameErr.Reason)
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(frameErr.Code), frameErr.Reason)
}

// connError is a violation outside of any frame.
func connError(code h3frame.ErrorCode, reason string) error {
	return &h3frame.FrameError{Code: code, Reason: reason}
}

// readVarint reads one variable-length integer (RFC 9000 §16) and no byte more.
func readVarint(r io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return 0, err
	}
	n := 1 << (b[0] >> 6)
	if _, err := io.ReadFull(r, b[1:n]); err != nil {
		return 0, err
	}
	v, _ := h3frame.ParseVarint(b[:n])
	return v, nil
}
