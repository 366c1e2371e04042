package natssink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

// errClosed ends what is at work when the sink is closed.
var errClosed = errors.New("the sink was closed")

// A FullError is JetStream refusing to store more. sink.IsFull holds for it.
type FullError struct {
	Sink string
	Err  error
}

func (e *FullError) Error() string {
	return fmt.Sprintf("sink %s is full: %v", e.Sink, e.Err)
}

func (e *FullError) Unwrap() error { return e.Err }

// Is makes it the same as a full disk.
func (e *FullError) Is(target error) bool { return target == syscall.ENOSPC }

// A MissingError is a stream or bucket that does not exist.
type MissingError struct {
	Kind, Name string // "stream" or "bucket"
	Remedy     string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s %s does not exist: %s", e.Kind, e.Name, e.Remedy)
}

// Error codes of the JetStream API that nats.go has no names for
// (nats-server, server/errors.json).
const (
	codeAccountResources  jetstream.ErrorCode = 10002 // resource limits exceeded for account
	codeInsufficient      jetstream.ErrorCode = 10023 // insufficient resources
	codeMemoryResources   jetstream.ErrorCode = 10028
	codeStorageResources  jetstream.ErrorCode = 10047
	codeStoreFailed       jetstream.ErrorCode = 10077 // the text says which limit
	codeMessageInProgress jetstream.ErrorCode = 10158 // the same Nats-Msg-Id is being stored
)

// full tells whether JetStream said that a limit of storage is reached.
func full(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeAccountResources, codeInsufficient, codeMemoryResources, codeStorageResources:
		return true
	case codeStoreFailed:
		return strings.Contains(api.Description, "maximum") && strings.Contains(api.Description, "exceeded")
	}
	return false
}

// transient tells whether the same message may be accepted in a while: what
// went wrong is the connection, or a server that is starting or electing.
func transient(err error) bool {
	var unavailable *sink.UnavailableError
	if errors.As(err, &unavailable) {
		return false // it was waited for already
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return !full(err) && (api.Code == 503 || api.ErrorCode == codeMessageInProgress)
	}
	var network net.Error // a write to a connection that is about to be made anew
	if errors.As(err, &network) {
		return true
	}
	for _, e := range []error{
		jetstream.ErrNoStreamResponse, jetstream.ErrAsyncPublishTimeout, jetstream.ErrTooManyStalledMsgs,
		nats.ErrDisconnected, nats.ErrNoResponders, nats.ErrReconnectBufExceeded, nats.ErrTimeout,
		nats.ErrConnectionReconnecting, nats.ErrStaleConnection, nats.ErrNoServers,
		context.DeadlineExceeded, io.EOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wrap gives err the type that says what the receiver should answer.
func (s *Sink) wrap(err error) error {
	var unavailable *sink.UnavailableError
	var missing *MissingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unavailable):
		return err
	case full(err):
		return &FullError{s.cfg.String(), err}
	case errors.As(err, &missing), transient(err), errors.Is(err, errClosed), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, context.Canceled):
		return s.unavailable(err)
	case errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
		return fmt.Errorf("sink %s: %w; raise max_msg_size of the stream or make inline smaller", s.cfg, err)
	}
	return fmt.Errorf("sink %s: %w", s.cfg, err)
}

// unavailable says that the sink does not work now. It adds what the server has said apart from any answer, such as
// that publishing is not permitted: a message that is not permitted gets no
// answer.
func (s *Sink) unavailable(err error) error {
	var already *sink.UnavailableError
	if errors.As(err, &already) {
		return err
	}
	if said := s.link.lastRefusal(); said != nil {
		err = fmt.Errorf("%w; the server said: %w", err, said)
	}
	return &sink.UnavailableError{Sink: s.cfg.String(), Err: err}
}
