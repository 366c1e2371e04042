package tailfin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A heldListener is one that a handshake keeps from being closed.
type heldListener struct{ release chan struct{} }

func (l heldListener) Accept(context.Context) (*quic.Conn, error) { return nil, net.ErrClosed }
func (l heldListener) Addr() net.Addr                             { return &net.UDPAddr{} }
func (l heldListener) Close() error {
	<-l.release
	return nil
}

// TestEndBesideHandshake ends a server while a handshake keeps a listener from being
// closed: the clients that are there do not wait for it.
func TestEndBesideHandshake(t *testing.T) {
	for name, end := range map[string]func(s *Server){
		"Close": func(s *Server) { _ = s.Close() },
		"Shutdown": func(s *Server) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.Shutdown(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
			c := newRawClient(t, startServer(t, s))
			if _, err := io.ReadAll(c.send(t, get("/"))); err != nil {
				t.Fatal(err)
			}
			held := heldListener{make(chan struct{})}
			if !s.track(held) {
				t.Fatal("the server is stopping")
			}
			s.accepting.Done()
			s.serving.Done()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				end(s)
			}()
			select {
			case <-c.conn.Context().Done():
			case <-timeout(t).Done():
				t.Error("the connection stays open")
			}
			var closed *quic.ApplicationError
			if err := context.Cause(c.conn.Context()); !errors.As(err, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(h3frame.ErrCodeNoError) {
				t.Errorf("the client's connection: %v", err)
			}
			close(held.release)
			<-ended
		})
	}
}
