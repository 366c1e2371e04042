package tailfin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// send writes the request. What keeps it from that shows on the receiving side
// too; its error is for those who do not look there.
func (s *clientStream) send() error {
	err := s.sendParts()
	s.trace.wroteRequest(err)
	if err != nil {
		_ = s.body.Close()
		return err
	}
	s.sent.Store(true)
	s.timeout.start(s.conn.transport.ResponseHeaderTimeout, s.cancel)
	return nil
}

func (s *clientStream) sendParts() error {
	out := sendStream{quic: s.quic}
	s.trace.wroteFields(s.try.fields)
	if err := out.writeFields(s.try.fields); err != nil {
		return err
	}
	req := s.try.original
	if s.body != nil {
		if err := out.flush(); err != nil {
			return err
		}
		s.trace.wroteHeaders()
		if !s.mayContinue() {
			s.quic.CancelWrite(quic.StreamErrorCode(h3frame.ErrCodeNoError)) // the peer wants no body
			return errBodyUnwanted
		}
		if err := s.copyBody(&out); err != nil {
			var failed *requestBodyError
			if errors.As(err, &failed) {
				s.bodyErr <- failed.err
				s.cancel()
			}
			return err
		}
	}
	if len(req.Trailer) > 0 {
		if err := out.writeFields(h3frame.TrailerFields(req.Trailer)); err != nil {
			return err
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	if s.body == nil {
		s.trace.wroteHeaders()
	}
	return nil
}

var errBodyUnwanted = errors.New("tailfin: the peer answered without waiting for the body")

// mayContinue waits for leave to send the body if the request asks for it: for
// 100 Continue, for a final response that does not refuse the request, or for
// ExpectContinueTimeout (RFC 9110 §10.1.1).
func (s *clientStream) mayContinue() bool {
	timeout := s.conn.transport.ExpectContinueTimeout
	if timeout <= 0 || !expectsContinue(s.try.original) {
		return true
	}
	s.trace.wait100Continue()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case send := <-s.proceed:
		return send
	case <-timer.C:
		return true
	case <-s.quic.Context().Done(): // the peer has stopped the request, or is gone
		return false
	}
}

func expectsContinue(req *http.Request) bool {
	return strings.EqualFold(req.Header.Get("Expect"), "100-continue")
}

// requestBodyError is a request body that could not be read, apart from a
// stream that could not be written.
type requestBodyError struct{ err error }

func (e *requestBodyError) Error() string { return e.err.Error() }
func (e *requestBodyError) Unwrap() error { return e.err }

// copyBody sends the request body, and holds it to its Content-Length.
func (s *clientStream) copyBody(out *sendStream) error {
	body, want := s.body, s.try.original.ContentLength
	defer func() { _ = body.Close() }()
	buf := make([]byte, 2*writeBuffer)
	var sent int64
	for {
		n, err := body.Read(buf)
		sent += int64(n)
		if want > 0 && sent > want {
			return &requestBodyError{fmt.Errorf("body is longer than its ContentLength of %d", want)}
		}
		if n > 0 {
			if werr := out.writeBody(buf[:n]); werr != nil {
				return werr
			}
			// The next read may take forever, and the peer may wait for this.
			if werr := out.flush(); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if want > 0 && sent < want {
				return &requestBodyError{fmt.Errorf("body ended after %d of %d bytes: %w", sent, want, io.ErrUnexpectedEOF)}
			}
			return nil
		case err != nil:
			return &requestBodyError{err}
		}
	}
}
