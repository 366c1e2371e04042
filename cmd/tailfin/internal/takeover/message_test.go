package takeover

import (
	"bytes"
	"net"
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
