package udp

import (
	"net"
	"sync/atomic"
)

// An Inspector looks at a datagram before a reader gets it, and says whether to
// deliver it. It runs on the goroutine that reads, for every datagram: it must
// be quick, and must not read from the Conn. The payload is valid only until it
// returns, and neither it nor the address may be changed.
//
// What it keeps back it may give to Conn.Deliver later, to have it read then.
type Inspector func(payload []byte, from *net.UDPAddr) bool

// Inspect sets the Conn's Inspector; nil is none. Reads that are under way may
// still use the one before.
func (c *Conn) Inspect(f Inspector) {
	if f == nil {
		c.inspector.Store(nil)
		return
	}
	c.inspector.Store(&f)
}

// Deliver has a reader get a datagram as if it arrived now, without control
// messages and without another look by the Inspector. It copies the payload, and
// reports false if too many datagrams wait in this way.
func (c *Conn) Deliver(payload []byte, from *net.UDPAddr) bool {
	taken, first := c.inbox.put(packet{addr: from, inspected: true}, payload)
	if first {
		c.main.r.wake()
	}
	return taken
}

// inspection is what a splitter knows of its Conn's Inspector.
type inspection struct {
	inspector *atomic.Pointer[Inspector]
	stats     *counters
}

// keepsBack tells whether a datagram is not to be delivered.
func (i *inspection) keepsBack(p *packet, datagram []byte) bool {
	if i.inspector == nil {
		return false
	}
	f := i.inspector.Load()
	if f == nil || p.inspected || (*f)(datagram, p.addr) {
		return false
	}
	i.stats.keptBack.Add(1)
	return true
}
