package takeover

import (
	"bytes"
	"net"
	"reflect"
	"testing"

	"github.com/tailfin-quic/tailfin/udp"
)

// TestDatagram takes messages of datagrams there and back, whole and cut anywhere.
func TestDatagram(t *testing.T) {
	for _, d := range []udp.Datagram{
		{From: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 1}, Payload: []byte("payload")},
		{From: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To16(), Port: 65535}, Control: []byte("control"), Payload: []byte("payload")},
		{From: &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 4433, Zone: "eth0"}, Control: []byte("control")},
		{From: &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 4433}, Payload: bytes.Repeat([]byte{1}, maxDatagram)},
	} {
		b, err := appendDatagram([]byte("before"), d)
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("before"):]
		var addrs addrBook
		got, err := parseDatagram(b, &addrs)
		if err != nil || got.From.String() != d.From.String() || len(got.From.IP) != len(d.From.IP) ||
			!bytes.Equal(got.Control, d.Control) || !bytes.Equal(got.Payload, d.Payload) {
			t.Errorf("%v: %v, %v", d, got, err)
		}
		if again, _ := parseDatagram(b, &addrs); again.From != got.From {
			t.Error("an address was made anew")
		}
		for n := range len(b) - len(d.Payload) {
			if got, err := parseDatagram(b[:n], &addrs); err == nil {
				t.Errorf("cut to %d of %d: %v", n, len(b), got)
			}
		}
	}
	if _, err := appendDatagram(nil, udp.Datagram{From: &net.UDPAddr{}, Payload: make([]byte, maxDatagram+1)}); err == nil {
		t.Error("a payload that is too long")
	}
}

// FuzzParseDatagram wants what can be parsed to be made the same again.
func FuzzParseDatagram(f *testing.F) {
	b, err := appendDatagram(nil, udp.Datagram{From: &net.UDPAddr{IP: net.IPv6loopback, Port: 5}, Control: []byte("c"), Payload: []byte("p")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var addrs addrBook
		d, err := parseDatagram(b, &addrs)
		if err != nil {
			return
		}
		again, err := appendDatagram(nil, d)
		if err != nil {
			return
		}
		got, err := parseDatagram(again, &addrs)
		if err != nil || got.From != d.From || !bytes.Equal(got.Control, d.Control) || !bytes.Equal(got.Payload, d.Payload) {
			t.Errorf("%v, then %v, %v", d, got, err)
		}
	})
}

// FuzzMessage gives both ends messages of the other, whatever they are: what is taken
// is within bounds, and made the same again.
func FuzzMessage(f *testing.F) {
	for k, v := range map[kind]any{
		kindHello:   hello{Version: protocolVersion, Takeover: true},
		kindOffer:   offer{Version: protocolVersion, Generation: 255, Groups: []group{{Generation: 254, Shards: 2}}, Keys: newKeys()},
		kindRefusal: refusal{Version: protocolVersion, InUse: true, Reason: "because"},
		kindHeir:    true,
		kindReady:   nil,
	} {
		b, err := encode(k, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzMessage(t, b, kindHello, new(hello), new(hello))
		fuzzMessage(t, b, kindRefusal, new(refusal), new(refusal))
		fuzzMessage(t, b, kindHeir, new(bool), new(bool))
		o := new(offer)
		fuzzMessage(t, b, kindOffer, o, new(offer))
		if len(b) == 0 || o.check(1+len(o.Groups)) != nil {
			return
		}
		if len(o.Groups) > maxGroups || len(o.Keys.Tickets) > maxTicketKeys {
			t.Errorf("%d groups, %d keys of tickets", len(o.Groups), len(o.Keys.Tickets))
		}
		for _, g := range o.Groups {
			if g.Shards < 1 || g.Shards > udp.MaxShards {
				t.Errorf("%d shards", g.Shards)
			}
		}
	})
}

// fuzzMessage decodes a message into one, and what that is encoded to into other.
func fuzzMessage(t *testing.T, b []byte, k kind, one, other any) {
	t.Helper()
	if decode(b, k, one) != nil {
		return
	}
	again, err := encode(k, one)
	if err != nil {
		return // it was at the limit, and is written longer
	}
	if err := decode(again, k, other); err != nil || !reflect.DeepEqual(one, other) {
		t.Errorf("%q is %+v, and then %+v, %v", b, one, other, err)
	}
}

// BenchmarkForward is what a forwarded datagram costs on its way out.
func BenchmarkForward(b *testing.B) {
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: "@tailfin/test/" + b.Name(), Net: "unixpacket"})
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	near, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: "@tailfin/test/" + b.Name(), Net: "unixpacket"})
	if err != nil {
		b.Fatal(err)
	}
	far, err := ln.AcceptUnix()
	if err != nil {
		b.Fatal(err)
	}
	m, err := newMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	l, err := newLink(near, peer{}, toNewer, m)
	if err != nil {
		b.Fatal(err)
	}
	got := make(chan int)
	go func() {
		n, buf := 0, make([]byte, maxMessage)
		var addrs addrBook
		for {
			size, err := far.Read(buf)
			if err != nil {
				got <- n
				return
			}
			if _, err := parseDatagram(buf[:size], &addrs); err == nil {
				n++
			}
		}
	}()
	d := udp.Datagram{From: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: 4}, Control: make([]byte, 56), Payload: make([]byte, 1252)}
	b.ReportAllocs()
	for b.Loop() {
		l.forward(d)
	}
	_ = near.Close()
	b.ReportMetric(float64(<-got)/float64(b.N), "arrived/op")
	_ = far.Close()
}
