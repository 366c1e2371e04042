package closerace

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/quic"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// An xnetServer is golang.org/x/net/quic, with as much of HTTP/3 above as it takes to
// read one request a stream. Its streams are read as those of the others are: the
// header section, a pause, and the body.
type xnetServer struct {
	*tally
	endpoint         *quic.Endpoint
	stop             context.CancelFunc
	accepting, conns sync.WaitGroup
	accepted         atomic.Int64
}

func newXNetServer(at netip.Addr, cert tls.Certificate, count *tally) (server, error) {
	socket, err := listen(at)
	if err != nil {
		return nil, err
	}
	endpoint, err := quic.NewEndpoint(socket, &quic.Config{
		TLSConfig: serverTLS(cert), MaxStreamReadBufferSize: streamWindow, MaxConnReadBufferSize: connWindow, MaxIdleTimeout: idleTimeout, QLogLogger: count.wire.logger(),
	})
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &xnetServer{tally: count, endpoint: endpoint, stop: stop}
	s.accepting.Go(func() {
		for {
			conn, err := endpoint.Accept(ctx)
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.conns.Go(func() { s.serve(context.Background(), conn) })
		}
	})
	return s, nil
}

func (s *xnetServer) serve(ctx context.Context, conn *quic.Conn) {
	defer conn.Abort(nil)
	// It fails if the peer is gone by now, which has streams to be read all the same.
	_ = sendSettings(ctx, conn)
	for {
		str, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		if str.IsReadOnly() {
			s.conns.Go(func() { _, _ = io.Copy(io.Discard, str) })
			continue
		}
		s.conns.Go(func() { s.readMessage(ctx, str, h3frame.RequestStream) })
	}
}

func sendSettings(ctx context.Context, conn *quic.Conn) error {
	str, err := conn.NewSendOnlyStream(ctx)
	if err != nil {
		return err
	}
	if _, err := str.Write(h3frame.AppendSettings(h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.Settings{})); err != nil {
		return err
	}
	return str.Flush()
}

// readMessage reads a message of HTTP/3 to its end, and judges its body.
func (t *tally) readMessage(ctx context.Context, r io.Reader, role h3frame.Role) {
	dec := h3frame.NewDecoder(role, h3frame.Limits{})
	defer dec.Buffer().Release()
	var body []byte
	for headed := false; ; {
		f, err := dec.Next()
		switch {
		case errors.Is(err, h3frame.ErrNeedMore):
			n, err := r.Read(dec.Buffer().Reserve())
			dec.Buffer().Commit(n)
			if err != nil {
				dec.Buffer().Finish(err)
			}
		case errors.Is(err, io.EOF):
			t.judge(body, nil)
			return
		case err != nil:
			if headed {
				t.judge(body, err)
			}
			return
		case f.Type == h3frame.FrameData:
			body = append(body, f.Payload...)
		case f.Type == h3frame.FrameHeaders && !headed:
			headed = true
			t.pause(ctx)
		}
	}
}

func (s *xnetServer) addr() string { return s.endpoint.LocalAddr().String() }

func (s *xnetServer) end(ctx context.Context, sent int, o *outcome) error {
	s.wire.waitFor(ctx, sent)
	o.Drops = socketDrops()
	for start := time.Now(); int(s.accepted.Load()) < sent && time.Since(start) < acceptPatience; time.Sleep(time.Millisecond) {
	}
	s.stop() // accepting; connections go on until they were closed, and their streams were read
	s.accepting.Wait()
	s.conns.Wait()
	closeEndpoint(s.endpoint)
	o.Backend = "msg"
	return nil
}

// closeEndpoint does not wait for peers to acknowledge.
func closeEndpoint(e *quic.Endpoint) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = e.Close(ctx)
}

// An xnetClient is golang.org/x/net/quic, with as much of HTTP/3 as one request takes.
type xnetClient struct {
	*tally
	endpoint *quic.Endpoint
}

func newXNetClient(at netip.Addr, count *tally) (client, error) {
	socket, err := listen(unspecified(at))
	if err != nil {
		return nil, err
	}
	endpoint, err := quic.NewEndpoint(socket, nil)
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	return &xnetClient{count, endpoint}, nil
}

func (c *xnetClient) fetch(ctx context.Context, addr, path string) error {
	conn, err := c.endpoint.Dial(ctx, "udp", addr, &quic.Config{
		TLSConfig: clientTLS(), MaxStreamReadBufferSize: streamWindow, MaxConnReadBufferSize: connWindow, MaxIdleTimeout: idleTimeout, QLogLogger: c.wire.logger(),
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsent, err)
	}
	defer conn.Abort(nil)
	if err := sendSettings(ctx, conn); err != nil {
		return err
	}
	str, err := conn.NewStream(ctx)
	if err != nil {
		return err
	}
	str.SetReadContext(ctx)
	fields := h3frame.RequestFields(h3frame.RequestHead{Method: http.MethodGet, Scheme: "https", Authority: addr, Path: path, Header: http.Header{}})
	if _, err := str.Write(h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields))); err != nil {
		return err
	}
	if err := str.CloseWrite(); err != nil {
		return err
	}
	c.readMessage(ctx, str, h3frame.ResponseStream)
	return nil
}

func (c *xnetClient) end(o *outcome) error {
	c.wire.waitFor(context.Background(), 0)
	o.Drops = socketDrops()
	closeEndpoint(c.endpoint)
	o.Backend = "msg"
	return nil
}
