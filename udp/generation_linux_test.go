package udp

import (
	"bytes"
	"crypto/rand"
	"net"
	"os"
	"testing"
)

// TestGenerations has two groups of shards on one address, as two processes would,
// of which the second steers: each datagram comes to the shard that has issued its
// connection ID, and those of a group that is closed to the other.
func TestGenerations(t *testing.T) {
	old, err := ListenShards("udp", "127.0.0.1:0", 2, WithGeneration(255))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	group, err := old.Group()
	if err != nil {
		if os.Geteuid() != 0 {
			t.Skipf("needs root to load a program: %v", err)
		}
		t.Fatal(err)
	}
	defer group.Sockets.Close()
	if kernel, why := old.Steering(); kernel || why == "" {
		t.Errorf("steers before it was told to: %v %q", kernel, why)
	}
	young, err := ListenShards("udp", old.Conns()[0].LocalAddr().String(), 3, WithGeneration(0))
	if err != nil {
		t.Fatal(err)
	}
	defer young.Close()
	if err := young.Steer(group); err != nil {
		t.Fatal(err)
	}
	if kernel, why := young.Steering(); !kernel {
		t.Fatal(why)
	}

	type want struct {
		of    *Shards
		shard int
	}
	wants := make(map[string]want)
	add := func(d []byte, of *Shards, shard int) { wants[string(d)] = want{of, shard} }
	for i := range 60 {
		for _, s := range []*Shards{old, young} {
			n := len(s.Conns())
			id, err := s.ConnectionIDs(i % n).GenerateConnectionID()
			if err != nil {
				t.Fatal(err)
			}
			if to, generation := AddresseeOf(append([]byte{0x40}, id.Bytes()...)); to != Issuer || int(generation) != s.route.generation {
				t.Fatalf("% x is of generation %d, %v", id.Bytes(), generation, to)
			}
			add(append(append([]byte{0x40}, id.Bytes()...), byte(i)), s, i%n)
			add(append(append([]byte{0xc0, 0, 0, 0, 1, shardIDLen}, id.Bytes()...), byte(i)), s, i%n)
		}
		client := make([]byte, 8+i%13)
		_, _ = rand.Read(client)
		d := append([]byte{0xc0, 0, 0, 0, 1, byte(len(client))}, client...)
		shard, ok := young.ShardOf(d)
		if to, _ := AddresseeOf(d); !ok || to != Newcomer {
			t.Fatalf("% x: %v, %v", d, to, ok)
		}
		add(d, young, shard)
	}
	send := func() {
		for d := range wants {
			c, err := net.Dial("udp", old.Conns()[0].LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte(d))
			_ = c.Close()
		}
	}
	check := func(s *Shards) (n int) {
		for i, list := range arrivals(t, s) {
			for _, d := range list {
				if w := wants[string(d)]; w.of != s || w.shard != i {
					t.Errorf("% x came to shard %d of generation %d", d, i, s.route.generation)
				}
				n++
			}
		}
		for i, c := range s.Conns() {
			if n := c.Stats().HandedOver; n != 0 {
				t.Errorf("%d datagrams that came to shard %d were not for it", n, i)
			}
		}
		return n
	}
	send()
	if n := check(old) + check(young); n != len(wants) {
		t.Errorf("%d of %d came", n, len(wants))
	}
	_ = old.Close()
	send()
	n := 0
	for _, list := range arrivals(t, young) {
		n += len(list)
	}
	if n != len(wants) {
		t.Errorf("%d of %d came with the older group closed", n, len(wants))
	}
}

// TestGenerationsInProcess gives datagrams to a shard for which they are not: what
// is of its generation is handed to the right one, and what is of another stays.
func TestGenerationsInProcess(t *testing.T) {
	s, err := ListenShards("udp", "127.0.0.1:0", 2, WithGeneration(7))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := s.Conns()[0].Inspect(func(Datagram) bool { return true })
	from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 9}
	control := []byte{1, 2, 3}
	for i := range 20 {
		for generation := range byte(10) {
			in.Deliver(Datagram{Payload: []byte{0x40, byte(i), generation, 1, 2, 3, 4, 5}, Control: control, From: from})
		}
	}
	for shard, list := range arrivals(t, s) {
		for _, d := range list {
			want := 0
			if d[2] == 7 {
				want = int(d[1]) % 2
			}
			if shard != want {
				t.Errorf("% x came to shard %d", d, shard)
			}
		}
		if want := []int{190, 10}[shard]; len(list) != want {
			t.Errorf("%d datagrams came to shard %d, want %d", len(list), shard, want)
		}
	}
}

// TestAddresseeOf looks at what is too short.
func TestAddresseeOf(t *testing.T) {
	id := bytes.Repeat([]byte{9}, 20)
	long := func(n byte, id []byte) []byte { return append([]byte{0xc0, 0, 0, 0, 1, n}, id...) }
	for i, tc := range []struct {
		d    []byte
		to   Addressee
		want uint8
	}{
		{nil, Anyone, 0},
		{[]byte{0x40}, Anyone, 0},
		{[]byte{0x40, 9}, Anyone, 0},
		{[]byte{0x40, 1, 9}, Issuer, 9},
		{long(7, nil), Anyone, 0},
		{long(7, id[:1]), Anyone, 0},
		{long(7, id[:2]), Issuer, 9},
		{long(8, id[:7]), Anyone, 0},
		{long(8, id[:8]), Newcomer, 0},
		{long(20, id), Newcomer, 0},
		{long(21, id), Anyone, 0},
		{long(6, id), Anyone, 0},
		{long(0, id), Anyone, 0},
	} {
		if to, generation := AddresseeOf(tc.d); to != tc.to || generation != tc.want {
			t.Errorf("%d: %v, %d", i, to, generation)
		}
	}
}
