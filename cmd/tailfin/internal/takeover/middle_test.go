package takeover

import (
	"testing"

	"github.com/tailfin-quic/tailfin"
)

// TestMiddleIsKilled has the second of three instances end before the first, which
// must not take for its own what is the third's.
func TestMiddleIsKilled(t *testing.T) {
	for _, shards := range []int{2, 1} {
		s := settings{Address: "127.0.0.1:0", Shards: shards, Steering: true}
		first := start(t, s)
		if !first.steers && shards > 1 {
			t.Skip("the kernel does not steer here; without that each client's datagrams come to one instance by chance")
		}
		u := beginUpload(t, newClient(t), first.addr, 100_000)
		s.Address, s.Takeover = first.addr, true
		second := start(t, s)
		first.expect("superseded")
		third := start(t, s)
		kept := newClient(t)
		if gen, err := put(t.Context(), kept, third.addr, nil, 0); err != nil || gen != third.generation {
			t.Errorf("generation %d, %v", gen, err)
		}
		second.kill()
		for range 20 {
			for _, tr := range []*tailfin.Transport{kept, newClient(t)} {
				if gen, err := put(t.Context(), tr, third.addr, nil, 0); err != nil || gen != third.generation {
					t.Errorf("generation %d, %v", gen, err)
				}
			}
		}
		u.finish(t, first.generation)
		first.ended()
		// The third is the one that hands over, and to one that was never linked.
		fourth := start(t, s)
		third.ended()
		_ = fourth.stdin.Close()
		fourth.ended()
	}
}
