package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin"
)

// trace returns a context whose requests tell about their connections, if that is
// wanted.
func (s *Session) trace(ctx context.Context) context.Context {
	if s.Verbose == nil {
		return ctx
	}
	start := time.Now()
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectStart: func(_, addr string) { s.verbosef("* connecting to %s", addr) },
		ConnectDone: func(_, addr string, err error) {
			if err != nil {
				s.verbosef("* no connection to %s: %v", addr, err)
				return
			}
			s.verbosef("* connected to %s in %v", addr, time.Since(start).Round(10*time.Microsecond))
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				s.verbosef("* %s", describeTLS(state))
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			if stats, ok := info.Conn.(interface{ ConnectionStats() quic.ConnectionStats }); ok {
				rtt := stats.ConnectionStats().SmoothedRTT
				s.verbosef("* stream on %s, reused %t, rtt %v", info.Conn.RemoteAddr(), info.Reused, rtt.Round(time.Microsecond))
			}
		},
	})
}

func describeTLS(state tls.ConnectionState) string {
	text := fmt.Sprintf("%s, %s, ALPN %q", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol)
	if len(state.PeerCertificates) > 0 {
		leaf := state.PeerCertificates[0]
		text += fmt.Sprintf(", certificate of %q by %q until %s", leaf.Subject, leaf.Issuer, leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	if state.DidResume {
		text += ", resumed"
	}
	return text
}

// verboseResponse tells about an answer, and how its datagrams were read.
func (s *Session) verboseResponse(tr *tailfin.Transport, resp *http.Response) {
	if s.Verbose == nil {
		return
	}
	gro := "off"
	if tr.GRO() {
		gro = "on"
	}
	s.verbosef("* datagrams read by %s, GRO %s", tr.Backend(), gro)
	s.verbosef("> %s %s", resp.Request.Method, resp.Request.URL)
	s.verbosef("< %s %s", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		s.verbosef("< %s: %s", name, strings.Join(resp.Header[name], ", "))
	}
}

func (s *Session) verbosef(format string, args ...any) {
	s.Progress.Print(s.Verbose, printable(fmt.Sprintf(format, args...))+"\n")
}
