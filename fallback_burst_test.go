package tailfin

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// TestClosingPeerInOnePacket sends 1,000 requests through a Fallback to a peer that
// answers each on a connection of its own, and closes it with H3_NO_ERROR in the very
// packet that has the FIN. All are POSTs, which may not be sent twice, and nothing is
// set that would allow it. A request that meets the close has not been sent, which is
// known, and goes to the next connection; for that its body can be had again.
func TestClosingPeerInOnePacket(t *testing.T) {
	requests := hostile.Size(200, 1000)
	if testing.Short() {
		requests = 50
	}
	body := peer.Pattern(700)
	answers := make(chan error, requests)
	dials := 0
	dial := func(ctx context.Context, _ string, tlsConf *tls.Config, quicConf *quic.Config) (*quic.Conn, error) {
		dials++
		ln, err := peer.ListenBurst(cert(t))
		if err != nil {
			return nil, err
		}
		go func() {
			defer ln.Close()
			b, ids, err := ln.Accept(t.Context(), 1)
			if err == nil {
				err = b.Send([]peer.Message{peer.ResponseMessage(ids[0], body)}, peer.Close{Code: 0x100})
			}
			answers <- err
		}()
		tlsConf.ServerName = "localhost"
		return quic.DialAddr(ctx, ln.Addr(), tlsConf, quicConf)
	}
	o := newOrigin(t, "", "")
	seen := &recorder{}
	f := newFallback(t, &Fallback{HTTP3: &Transport{Dial: dial}, TryUnknown: true, Observer: seen, Breaker: &Breaker{Failures: 1}})
	for i := range requests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+o.addr+"/", strings.NewReader(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := f.RoundTrip(req)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(got) != string(body) {
			t.Fatalf("request %d: %d of %d bytes, %v", i, len(got), len(body), err)
		}
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	want(t, dials, requests)
	want(t, o.overHTTP.Load(), 0)
	known, _ := f.caps.Of(o.addr)
	want(t, known, Supported)
	want(t, len(strings.Fields(strings.ReplaceAll(seen.classes(), "success", ""))), 0)
}
