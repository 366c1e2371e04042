package udp

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

// TestInspect keeps some datagrams back, and has them delivered later, to a read
// that blocks.
func TestInspect(t *testing.T) {
	each(t, func(t *testing.T, listen func(*testing.T, string, string) *Conn) {
		c := listen(t, "udp", "127.0.0.1:0")
		s := dial(t, c)
		kept := make(chan []byte, 10)
		var from *net.UDPAddr
		in := c.Inspect(func(d Datagram) bool {
			if d.Payload[0] != 'k' {
				return true
			}
			from = d.From
			kept <- bytes.Clone(d.Payload)
			return false
		})
		for i := range 6 {
			prefix := "pass"
			if i%2 == 1 {
				prefix = "keep"
			}
			if _, err := fmt.Fprintf(s, "%s %d", prefix, i); err != nil {
				t.Fatal(err)
			}
		}
		got := collect(t, c, 3)
		for i, want := range []string{"pass 0", "pass 2", "pass 4"} {
			if string(got[i]) != want {
				t.Errorf("datagram %d: %q, want %q", i, got[i], want)
			}
		}
		// The last one is kept back by a read that goes on to wait.
		read := make(chan [][]byte, 1)
		go func() { read <- collect(t, c, 3) }()
		var held [][]byte
		for range 3 {
			held = append(held, <-kept)
		}
		for _, p := range held {
			if !in.Deliver(Datagram{Payload: p, From: from}) {
				t.Fatal("no room")
			}
		}
		select {
		case got = <-read:
		case <-time.After(10 * time.Second):
			t.Fatal("the read goes on to wait")
		}
		for i, want := range []string{"keep 1", "keep 3", "keep 5"} {
			if string(got[i]) != want {
				t.Errorf("delivered %q, want %q", got[i], want)
			}
		}
		if from.String() != s.LocalAddr().String() {
			t.Errorf("from %v, want %v", from, s.LocalAddr())
		}
		if st := c.Stats(); st.KeptBack != 3 || st.Datagrams != 6 {
			t.Errorf("%d kept back, %d delivered", st.KeptBack, st.Datagrams)
		}
		in.Remove()
		_, _ = s.Write([]byte("keep no more"))
		if got := collect(t, c, 1); string(got[0]) != "keep no more" {
			t.Errorf("without an inspector: %q", got[0])
		}
	})
}

// TestInspectTrain sees that each datagram of a train is looked at.
func TestInspectTrain(t *testing.T) {
	var stats counters
	c := &Conn{}
	c.Inspect(func(d Datagram) bool { return !bytes.Equal(d.Payload, []byte("bb")) })
	s := splitter{src: &listSource{[]packet{{addr: &net.UDPAddr{}, payload: []byte("aabbccbbd"), segment: 2}}}, stats: &stats,
		inspection: inspection{&c.inspectors, &stats}}
	var got []string
	for {
		ms := messages(2)
		n := s.fill(ms)
		if n == 0 {
			break
		}
		for _, m := range ms[:n] {
			got = append(got, string(m.Buffers[0][:m.N]))
		}
	}
	if want := []string{"aa", "cc", "d"}; !slices.Equal(got, want) || stats.keptBack.Load() != 2 {
		t.Errorf("%q, %d kept back", got, stats.keptBack.Load())
	}
}

// TestInspectors has two look one after the other, of which one delivers what it
// has kept back: the other looks at it, and its control messages are still there.
func TestInspectors(t *testing.T) {
	c := &Conn{}
	var stats counters
	var looks []string
	look := func(name string, keep bool) Inspector {
		return func(d Datagram) bool {
			looks = append(looks, name+string(d.Payload)+string(d.Control))
			return !keep
		}
	}
	first := c.Inspect(look("1", true))
	c.Inspect(look("2", false))
	in := inspection{&c.inspectors, &stats}
	p := packet{control: []byte("c")}
	if !in.keepsBack(&p, []byte("x")) {
		t.Error("the first was not asked")
	}
	p.passed = first
	if in.keepsBack(&p, []byte("y")) {
		t.Error("kept back again")
	}
	first.Remove()
	p.passed = nil
	if in.keepsBack(&p, []byte("z")) {
		t.Error("kept back by one that is removed")
	}
	if want := []string{"1xc", "2yc", "2zc"}; !slices.Equal(looks, want) {
		t.Errorf("%q, want %q", looks, want)
	}
}
