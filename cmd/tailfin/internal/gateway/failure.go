package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
)

// statusClientGone is for the log: a client that has left sees no status.
const statusClientGone = 499

// Error types of Proxy-Status (RFC 9209 §2.3).
const (
	proxyDNS         = "dns_error"
	proxyUnavailable = "destination_unavailable"
	proxyRefused     = "connection_refused"
	proxyConnTimeout = "connection_timeout"
	proxyTerminated  = "connection_terminated"
	proxyTLS         = "tls_protocol_error"
	proxyCertificate = "tls_certificate_error"
	proxyRequest     = "http_request_error"
	proxyTimeout     = "http_response_timeout"
	proxyProtocol    = "http_protocol_error"
	proxyLoop        = "proxy_loop_detected"
	proxyInternal    = "proxy_internal_error"
)

// retrySoon is Retry-After behind a peer that goes in good order: another one comes.
const retrySoon = time.Second

// outcomeOf is tailfin.OutcomeOf for an error in place of a response, over
// whichever version.
func outcomeOf(err error) tailfin.Outcome {
	o := tailfin.OutcomeOf(err)
	if _, typed := tailfin.ProgressOf(err); typed || errors.Is(err, tailfin.ErrCircuitOpen) {
		return o
	}
	// What net/http says: io.EOF is a connection that was lost here.
	o = tailfin.Outcome{Class: tailfin.ClassOther, Phase: tailfin.PhaseHeaders, Breaker: tailfin.Failure}
	var (
		op       *net.OpError
		timeout  net.Error
		dns      *net.DNSError
		cert     *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		alert    tls.AlertError
		noRecord tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns):
		o.Class, o.Phase = tailfin.ClassDialOther, tailfin.PhaseBeforeWire
	case errors.Is(err, syscall.ECONNREFUSED):
		o.Class, o.Phase = tailfin.ClassDialRefused, tailfin.PhaseBeforeWire
	case errors.As(err, &cert), errors.As(err, &unknown), errors.As(err, &alert), errors.As(err, &noRecord):
		o.Class, o.Phase = tailfin.ClassDialHandshake, tailfin.PhaseBeforeWire
	case errors.As(err, &op) && op.Op == "dial":
		o.Class, o.Phase = tailfin.ClassDialOther, tailfin.PhaseBeforeWire
		if op.Timeout() {
			o.Class = tailfin.ClassDialTimeout
		}
	case errors.As(err, &timeout) && timeout.Timeout():
		o.Class = tailfin.ClassHeaderTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		o.Class = tailfin.ClassTransportClose
	}
	return o
}

// bodyOutcome is that of an error in a response's body.
func bodyOutcome(err error) tailfin.Outcome {
	if o := tailfin.OutcomeOf(err); o.Class != tailfin.ClassOther {
		return o
	}
	return tailfin.Outcome{Class: tailfin.ClassTruncatedError, Phase: tailfin.PhaseBody, Breaker: tailfin.Failure}
}

// A failure is how an error shows to the client.
type failure struct {
	status int
	proxy  string        // the error type of Proxy-Status
	again  time.Duration // Retry-After; 0 for none
	text   string
}

// failureOf says how an error in place of a response shows.
func (g *Gateway) failureOf(err error) failure {
	var tooLong *http.MaxBytesError
	switch {
	case errors.Is(err, tailfin.ErrCircuitOpen):
		return failure{http.StatusServiceUnavailable, proxyUnavailable, g.openFor(), "the upstream has failed again and again, and is left alone for a while"}
	case errors.As(err, &tooLong):
		return failure{http.StatusRequestEntityTooLarge, proxyRequest, 0, fmt.Sprintf("at most %d bytes are taken", tooLong.Limit)}
	}
	o := outcomeOf(err)
	switch o.Class {
	case tailfin.ClassRequestBody:
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return failure{http.StatusRequestTimeout, proxyRequest, 0, "the body of the request did not come"}
		}
		return failure{http.StatusBadRequest, proxyRequest, 0, "the body of the request was cut short"}
	case tailfin.ClassRequest:
		var fields *tailfin.FieldSectionError
		if errors.As(err, &fields) {
			return failure{http.StatusRequestHeaderFieldsTooLarge, proxyRequest, 0, "the header is more than the upstream takes"}
		}
		return failure{http.StatusBadRequest, proxyRequest, 0, "the request cannot be forwarded as it is"}
	case tailfin.ClassCancelled:
		return failure{statusClientGone, proxyInternal, 0, "the client has left"}
	case tailfin.ClassDeadline, tailfin.ClassHeaderTimeout, tailfin.ClassIdleTimeout:
		return failure{http.StatusGatewayTimeout, proxyTimeout, 0, "the upstream did not answer in time"}
	case tailfin.ClassDialTimeout:
		return failure{http.StatusGatewayTimeout, proxyConnTimeout, 0, "the upstream could not be reached in time"}
	case tailfin.ClassDialRefused:
		return failure{http.StatusBadGateway, proxyRefused, 0, "the upstream refused the connection"}
	case tailfin.ClassDialHandshake:
		return failure{http.StatusBadGateway, handshakeType(err), 0, "no connection to the upstream could be made"}
	case tailfin.ClassDialOther:
		return failure{http.StatusBadGateway, dialType(err), 0, "the upstream could not be reached"}
	case tailfin.ClassFrameError:
		return failure{http.StatusBadGateway, proxyProtocol, 0, "the upstream broke HTTP/3"}
	case tailfin.ClassGracefulClose, tailfin.ClassGoAway, tailfin.ClassResetRejected, tailfin.ClassEarlyRejected:
		if o.RetrySafe {
			return failure{http.StatusServiceUnavailable, proxyTerminated, retrySoon, "the upstream takes no requests now; nothing was done for this one"}
		}
	}
	return failure{http.StatusBadGateway, proxyTerminated, 0, "the connection to the upstream was lost; whether it acted on the request is not known"}
}

func handshakeType(err error) string {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return proxyCertificate
	}
	return proxyTLS
}

func dialType(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return proxyDNS
	}
	return proxyUnavailable
}

// fail is ReverseProxy's ErrorHandler.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, err error) {
	accesslog.Fail(r.Context(), err)
	f := g.failureOf(err)
	o := outcomeOf(err)
	if x := exchangeOf(r.Context()); x != nil && brokeRules(err) {
		o = tailfin.Outcome{Class: tailfin.ClassOther, Phase: tailfin.PhaseHeaders}
		x.end(o)
		f = failure{http.StatusBadGateway, proxyProtocol, 0, "the upstream broke HTTP"}
	}
	if f.again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(f.again, time.Second)/time.Second)))
	}
	w.Header().Set("Proxy-Status", fmt.Sprintf("tailfin; error=%s; details=%q", f.proxy, o.Class.String()+" "+o.Phase.String()))
	http.Error(w, f.text, f.status)
}

// refusal is why a request is not forwarded.
func (g *Gateway) refusal(r *http.Request) (status int, err error) {
	if r.Method == http.MethodConnect {
		return http.StatusNotImplemented, errors.New("CONNECT is not forwarded; a gateway has one upstream, and no tunnels")
	}
	if problem := checkTarget(r); problem != "" {
		return http.StatusBadRequest, errors.New(problem)
	}
	if g.looped(r) {
		return http.StatusLoopDetected, errors.New("the request was here before; the upstream forwards to this gateway")
	}
	if limit := g.maxBody.Load(); limit > 0 && r.ContentLength > limit {
		return http.StatusRequestEntityTooLarge, fmt.Errorf("body of %d bytes; at most %d are taken", r.ContentLength, limit)
	}
	return 0, nil
}

// refuse answers a request that is not forwarded.
func refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	kind := proxyRequest
	if status == http.StatusLoopDetected {
		kind = proxyLoop
	}
	w.Header().Set("Proxy-Status", "tailfin; error="+kind)
	http.Error(w, err.Error(), status)
	accesslog.Fail(r.Context(), err)
}
