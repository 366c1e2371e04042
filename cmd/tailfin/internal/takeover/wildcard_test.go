package takeover

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/udp"
)

// TestWildcardBeforeServing has newcomers speak to an address that is not the one by
// which the kernel would answer, while a new instance receives and does not serve
// yet: what its sockets get before quic-go has set them up must say the address too.
func TestWildcardBeforeServing(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			first := begin(t, settings{Address: address, Shards: 2})
			second, err := Listen(t.Context(), Config{
				Network: "udp", Address: first.l.Addr().String(), Shards: 2, Takeover: true,
				Options: []udp.Option{udp.WithSteering(false)}, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			closed := false
			defer func() {
				if !closed {
					_ = second.Close(canceled())
				}
			}()
			target := net.JoinHostPort("127.0.0.2", fmt.Sprint(first.l.Addr().Port))
			const n = 8
			for range n {
				r := newRelay(t, target)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				gen, err := put(ctx, newClient(t), r.addr(), []byte("hello"), 0)
				cancel()
				if err != nil || gen != int(first.l.own) {
					t.Errorf("generation %d: %v", gen, err)
				}
			}
			if first.counts()["delivered_datagrams_total"] == 0 {
				t.Error("the new instance received nothing")
			}
			closed = true
			if err := second.Close(canceled()); err != nil {
				t.Error(err)
			}
		})
	}
}
