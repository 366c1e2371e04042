package udp

import (
	"bytes"
	"net"
	"testing"
)

// TestInbox fills an inbox beyond its bound, and takes from it in between.
func TestInbox(t *testing.T) {
	var b inbox
	addr := &net.UDPAddr{Port: 1}
	next, due := 0, 0
	put := func(n int) (refused int) {
		for range n {
			d := []byte{byte(next), byte(next >> 8)}
			taken, first := b.put(packet{addr: addr, control: []byte{byte(next)}}, d)
			if first != (taken && next == due) {
				t.Fatalf("datagram %d with %d waiting: first %v", next, next-due, first)
			}
			if !taken {
				refused++
				continue
			}
			next++
		}
		return refused
	}
	take := func(n int) {
		for range n {
			p, ok := b.next()
			if !ok || !bytes.Equal(p.payload, []byte{byte(due), byte(due >> 8)}) || p.addr != addr || p.control[0] != byte(due) || p.segment != 0 {
				t.Fatalf("datagram %d: %+v, %v", due, p, ok)
			}
			due++
		}
	}
	if r := put(maxInbox + 10); r != 10 {
		t.Errorf("%d refused, want 10", r)
	}
	take(maxInbox - 1)
	if r := put(300); r != 0 {
		t.Errorf("%d refused with room", r)
	}
	for range 50 {
		take(200)
		put(200)
	}
	take(next - due)
	if _, ok := b.next(); ok || b.has() {
		t.Error("more than was put")
	}
	if len(b.list) > 2*maxInbox || len(b.free) > maxInbox {
		t.Errorf("%d in the list, %d free", len(b.list), len(b.free))
	}
}
