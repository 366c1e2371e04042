package limits

import (
	"net"
	"net/netip"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"github.com/tailfin-quic/tailfin"
)

// maxAddrs is how many addresses are remembered, those that were last seen. One
// that is forgotten begins anew.
const maxAddrs = 1 << 16

// perAddr is a rate for each address.
type perAddr struct {
	mu    sync.Mutex
	rate  float64 // 0 is any
	addrs *simplelru.LRU[netip.Prefix, *rate.Limiter]
}

func newPerAddr() *perAddr {
	addrs, err := simplelru.NewLRU[netip.Prefix, *rate.Limiter](maxAddrs, nil)
	if err != nil {
		return nil // only for a size that is not positive
	}
	return &perAddr{addrs: addrs}
}

// set changes the rate, and forgets what was seen if it did.
func (p *perAddr) set(perSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if perSecond != p.rate {
		p.rate = perSecond
		p.addrs.Purge()
	}
}

// allow tells whether one more from addr is within the rate.
func (p *perAddr) allow(addr net.Addr) bool {
	network := tailfin.NetworkOf(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 || !network.IsValid() {
		return true
	}
	limiter, ok := p.addrs.Get(network)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(p.rate), burst(p.rate))
		p.addrs.Add(network, limiter)
	}
	return limiter.Allow()
}
