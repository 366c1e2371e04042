package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// maxReason bounds how much is read of the body of an answer that is no success.
const maxReason = 4 << 10

// A Session is what the transfers of one command share.
type Session struct {
	// NewTransport makes a Transport: one for each transfer, or as many as
	// Connections says.
	NewTransport func() *tailfin.Transport
	// Connections is how many connections all transfers share. Zero gives each
	// transfer one of its own.
	Connections int
	// Header is added to every request. Host replaces the authority if it is set.
	Header http.Header
	Host   string
	// Retries is how often in a row a transfer may fail, without any progress
	// worth the name, and be taken up again.
	Retries int
	// RetryWait is the pause before the first retry; each further one is twice as
	// long. Zero means DefaultRetryWait.
	RetryWait time.Duration
	// Timeout bounds one transfer, its retries included. Zero means no bound.
	Timeout time.Duration
	// Progress shows how far the transfers are. Nil shows nothing.
	Progress *Progress
	// Notes gets a line for each retry, and of what was kept. Nil drops them.
	Notes io.Writer
	// Verbose gets lines about connections. Nil drops them.
	Verbose io.Writer

	mu     sync.Mutex
	shared []*tailfin.Transport
	next   int // the shared one that the next transfer gets
}

// lease returns the transport of one transfer, and what to call at its end.
func (s *Session) lease() (*tailfin.Transport, func()) {
	if s.Connections <= 0 {
		tr := s.NewTransport()
		return tr, func() { _ = tr.Close() }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shared) < s.Connections {
		s.shared = append(s.shared, s.NewTransport())
	}
	tr := s.shared[s.next%len(s.shared)]
	s.next = (s.next + 1) % s.Connections
	return tr, func() {}
}

// Close closes the shared connections.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, tr := range s.shared {
		errs = append(errs, tr.Close())
	}
	s.shared = nil
	return errors.Join(errs...)
}

// bound returns a context that ends with the transfer's time.
func (s *Session) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, s.Timeout,
		fmt.Errorf("the time of %v (--timeout) is over: %w", s.Timeout, context.DeadlineExceeded))
}

// request makes a request with what the session adds to each.
func (s *Session) request(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(s.trace(ctx), method, u.String(), body)
	if err != nil {
		return nil, err
	}
	for name, values := range s.Header {
		req.Header[name] = append([]string(nil), values...)
	}
	if s.Host != "" {
		req.Host = s.Host
	}
	return req, nil
}

// note tells the user something that is not an error of the command.
func (s *Session) note(format string, args ...any) {
	if s.Notes != nil {
		s.Progress.Print(s.Notes, "tailfin: "+fmt.Sprintf(format, args...)+"\n")
	}
}

// A StatusError is an answer that is no success.
type StatusError struct {
	Status string // code and phrase
	Code   int
	Reason string        // what the body says, cut to a few kB
	After  time.Duration // that Retry-After asks for; 0 if it does not

	// final tells that the upload is complete, so that the status is of what became
	// of it and not of the transfer.
	final bool
}

func (e *StatusError) Error() string {
	if e.Reason == "" {
		return e.Status
	}
	return e.Status + ": " + e.Reason
}

// statusError reads the reason of an answer that is no success.
func statusError(resp *http.Response) *StatusError {
	reason, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	return &StatusError{
		Status: resp.Status,
		Code:   resp.StatusCode,
		Reason: printable(strings.TrimSpace(string(reason))),
		After:  retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}

// printable keeps a peer from writing control sequences to a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '?'
		}
		return r
	}, text)
}

// A FileError is a local file that cannot be used.
type FileError struct {
	Path string
	Err  error
	// Unwritable tells an output that could not be begun with.
	Unwritable bool
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }
