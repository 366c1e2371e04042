package peer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/quic"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// XNetOptions says how an x/net/quic peer behaves.
type XNetOptions struct {
	// CloseAfterResponse makes a server close the connection with H3_NO_ERROR
	// after its first answer.
	CloseAfterResponse bool
	// MaxStreams is how many requests a client may have open on a connection of a
	// server. Zero means x/net/quic's default.
	MaxStreams int64
	// Delay is the time between the FIN and the close. It is spun away, since a
	// timer cannot wait for 10 µs.
	Delay time.Duration
}

// An XNetServer answers /bytes/N with that many bytes of Pattern, a NumberedPath with
// its Numbered and /sum with the SHA-256 of the request's body, whatever the method, and
// anything else with 404.
type XNetServer struct {
	endpoint *quic.Endpoint
	opts     XNetOptions
	watches  *finWatches
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

// ListenXNet starts a server.
func ListenXNet(addr string, cert tls.Certificate, opts XNetOptions) (*XNetServer, error) {
	watches := newFINWatches()
	conf := &quic.Config{MaxBidiRemoteStreams: opts.MaxStreams, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"h3"},
	}}
	if opts.CloseAfterResponse {
		conf.QLogLogger = watches.logger()
	}
	endpoint, err := quic.Listen("udp", addr, conf)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &XNetServer{endpoint: endpoint, opts: opts, watches: watches, stop: stop}
	s.wg.Go(func() {
		for {
			conn, err := endpoint.Accept(ctx)
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(ctx, conn) })
		}
	})
	return s, nil
}

// Addr is the address that clients dial.
func (s *XNetServer) Addr() string { return s.endpoint.LocalAddr().String() }

// Close stops the server at once.
func (s *XNetServer) Close() error {
	s.stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for peers to acknowledge
	_ = s.endpoint.Close(ctx)
	s.wg.Wait()
	return nil
}

func (s *XNetServer) serve(ctx context.Context, conn *quic.Conn) {
	defer conn.Abort(noError)
	if err := openControl(ctx, conn); err != nil {
		return
	}
	for {
		str, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		if str.IsReadOnly() {
			go func() { _, _ = io.Copy(io.Discard, str) }()
			continue
		}
		if err := s.answer(str); err != nil {
			return
		}
		if s.opts.CloseAfterResponse {
			if fin := s.watches.take(conn.RemoteAddr()); fin != nil {
				select {
				case <-fin.sent:
				case <-time.After(maxFINWait): // its client may be gone
				case <-ctx.Done():
				}
			}
			spin(s.opts.Delay)
			return
		}
	}
}

// maxFINWait bounds how long a server waits to have sent its FIN.
const maxFINWait = 2 * time.Second

// noError is the close of an HTTP/3 peer that has nothing to complain of.
var noError = &quic.ConnectionCloseError{Code: uint64(h3frame.ErrCodeNoError)}

// spin waits for d without giving the processor up.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// openControl sends an empty SETTINGS frame on a control stream.
func openControl(ctx context.Context, conn *quic.Conn) error {
	str, err := conn.NewSendOnlyStream(ctx)
	if err != nil {
		return err
	}
	b := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	if _, err := str.Write(h3frame.AppendSettings(b, h3frame.Settings{})); err != nil {
		return err
	}
	return str.Flush()
}

// answer reads one request to its FIN and sends HEADERS, DATA and FIN.
func (s *XNetServer) answer(str *quic.Stream) error {
	head, sent, err := readRequest(str)
	if err != nil {
		return err
	}
	msg, err := response(head, sent)
	if err != nil {
		return err
	}
	if _, err := str.Write(msg); err != nil {
		return err
	}
	return str.CloseWrite()
}

// response is HEADERS and DATA of the answer to a request with a body: see XNetServer.
func response(head h3frame.RequestHead, sent []byte) ([]byte, error) {
	status, body := http.StatusNotFound, []byte(nil)
	if head.Path == "/sum" {
		sum := sha256.Sum256(sent)
		status, body = http.StatusOK, []byte(hex.EncodeToString(sum[:]))
	}
	if rest, ok := strings.CutPrefix(head.Path, numberedPrefix); ok {
		id, size, err := parseNumbered(rest)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", head.Path, err)
		}
		status, body = http.StatusOK, Numbered(id, size)
	}
	if n, ok := strings.CutPrefix(head.Path, "/bytes/"); ok {
		size, err := strconv.Atoi(n)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("path %q", head.Path)
		}
		status, body = http.StatusOK, Pattern(size)
	}
	fields := h3frame.ResponseFields(h3frame.ResponseHead{Status: status, Header: http.Header{}})
	msg := h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields))
	return h3frame.AppendData(msg, body), nil
}

// readRequest reads a request to its FIN and returns its header section and body.
func readRequest(r io.Reader) (head h3frame.RequestHead, body []byte, err error) {
	dec := h3frame.NewDecoder(h3frame.RequestStream, h3frame.Limits{})
	defer dec.Buffer().Release()
	for {
		f, err := dec.Next()
		switch {
		case errors.Is(err, h3frame.ErrNeedMore):
			n, err := r.Read(dec.Buffer().Reserve())
			dec.Buffer().Commit(n)
			if err != nil {
				dec.Buffer().Finish(err)
			}
		case errors.Is(err, io.EOF):
			return head, body, nil
		case err != nil:
			return head, nil, err
		case f.Type == h3frame.FrameData:
			body = append(body, f.Payload...)
		case f.Type == h3frame.FrameHeaders && head.Method == "":
			fields, err := h3frame.DecodeFieldSection(f.Payload, 1<<20)
			if err != nil {
				return head, nil, err
			}
			if head, err = h3frame.ParseRequestFields(fields); err != nil {
				return head, nil, err
			}
		}
	}
}

// PutXNet uploads body with an x/net/quic client that closes the connection
// with H3_NO_ERROR delay after the FIN, without waiting for an answer.
func PutXNet(ctx context.Context, addr, path string, body []byte, delay time.Duration) error {
	local := "127.0.0.1:0"
	if to, err := netip.ParseAddrPort(addr); err == nil && !to.Addr().IsLoopback() {
		local = "0.0.0.0:0"
	}
	endpoint, err := quic.Listen("udp", local, nil)
	if err != nil {
		return err
	}
	defer func() {
		// The close must be on its way, and nobody needs to acknowledge it.
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = endpoint.Close(ctx)
	}()
	fin := newFINWatch()
	conn, err := endpoint.Dial(ctx, "udp", addr, &quic.Config{QLogLogger: fin.logger(), TLSConfig: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a peer for loopback tests
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h3"},
	}})
	if err != nil {
		return err
	}
	if err := openControl(ctx, conn); err != nil {
		return err
	}
	str, err := conn.NewStream(ctx)
	if err != nil {
		return err
	}
	fields := h3frame.RequestFields(h3frame.RequestHead{
		Method: http.MethodPut, Scheme: "https", Authority: addr, Path: path, Header: http.Header{},
	})
	msg := h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields))
	msg = h3frame.AppendData(msg, body)
	if _, err := str.Write(msg); err != nil {
		return err
	}
	if err := str.CloseWrite(); err != nil {
		return err
	}
	select {
	case <-fin.sent:
	case <-ctx.Done():
		return ctx.Err()
	}
	spin(delay)
	conn.Abort(noError)
	return nil
}
