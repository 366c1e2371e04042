package udp

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// A Datagram is what an Inspector sees, and what Deliver is given.
type Datagram struct {
	Payload []byte
	// Control has the control messages of recvmsg(2) that the socket was asked for
	// (ECN, the local address), without that of UDP_GRO. Some readers need them to
	// answer: on a wildcard socket the address that the peer spoke to is in them.
	Control []byte
	From    *net.UDPAddr
}

// An Inspector looks at a datagram before a reader gets it, and says whether to
// deliver it. It runs on the goroutine that reads, for every datagram: it must
// be quick, and must not read from the Conn. The datagram is valid only until it
// returns, but for its address, and nothing of it may be changed.
//
// What it keeps back it may give to Inspection.Deliver later, to have it read then.
type Inspector func(d Datagram) bool

// An Inspection is an Inspector at work on a Conn.
type Inspection struct {
	conn *Conn
	look Inspector
}

// Inspect has f look at each datagram that those before it have let pass, until
// Remove.
func (c *Conn) Inspect(f Inspector) *Inspection {
	i := &Inspection{conn: c, look: f}
	c.inspectors.change(func(list []*Inspection) []*Inspection { return append(list, i) })
	return i
}

// Remove ends the Inspection. Reads that are under way may still use it.
func (i *Inspection) Remove() {
	i.conn.inspectors.change(func(list []*Inspection) []*Inspection {
		return slices.DeleteFunc(list, func(other *Inspection) bool { return other == i })
	})
}

// Deliver has a reader get a datagram as if it arrived now, without another look by
// this Inspector. It copies all but the address, and reports false if too many
// datagrams wait in this way.
func (i *Inspection) Deliver(d Datagram) bool {
	taken, first := i.conn.inbox.put(packet{addr: d.From, control: d.Control, passed: i}, d.Payload)
	if first {
		i.conn.main.r.wake()
	}
	return taken
}

// inspectors are those of a Conn, in the order in which they look.
type inspectors struct {
	mu   sync.Mutex                    // orders changes
	list atomic.Pointer[[]*Inspection] // of which a new one is made for each change; nil for none
}

func (s *inspectors) change(f func([]*Inspection) []*Inspection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Inspection
	if old := s.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if list = f(list); len(list) == 0 {
		s.list.Store(nil)
		return
	}
	s.list.Store(&list)
}

// inspection is what a splitter knows of its Conn's Inspectors.
type inspection struct {
	inspectors *inspectors
	stats      *counters
}

// keepsBack tells whether a datagram is not to be delivered.
func (i *inspection) keepsBack(p *packet, datagram []byte) bool {
	if i.inspectors == nil {
		return false
	}
	list := i.inspectors.list.Load()
	if list == nil {
		return false
	}
	for _, in := range *list {
		if in != p.passed && !in.look(Datagram{Payload: datagram, Control: p.control, From: p.addr}) {
			i.stats.keptBack.Add(1)
			return true
		}
	}
	return false
}
