package netlab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// headed is a datagram as a TUN device gives it, of which only the pseudo-header is
// summed up.
func headed(from, to netip.AddrPort, payload string) []byte {
	p := newDatagram(from, to, payload)
	udp := udpAt(p)
	resize(p, udp)
	h := make([]byte, vnetHeader)
	h[0] = vnetNeedsSum
	binary.NativeEndian.PutUint16(h[vnetStart:], uint16(udp))
	binary.NativeEndian.PutUint16(h[vnetOffset:], udpChecksum)
	return append(h, p...)
}

// finish does what the kernel does last: the checksum. It returns the payload.
func finish(t *testing.T, one []byte) string {
	t.Helper()
	if one[0]&vnetNeedsSum == 0 || one[vnetType] != 0 {
		t.Fatalf("header % x", one[:vnetHeader])
	}
	p := bytes.Clone(one[vnetHeader:])
	udp := udpAt(p)
	binary.BigEndian.PutUint16(p[udp+udpChecksum:], ^sum(p[udp:]))
	checkSums(t, p)
	if n := int(binary.BigEndian.Uint16(p[udp+udpLength:])); n != len(p)-udp {
		t.Errorf("UDP length %d of %d", n, len(p)-udp)
	}
	return string(p[udp+udpHeader:])
}

func TestJoinAndCut(t *testing.T) {
	for _, hosts := range [][2]netip.Addr{{sender4, receiver4}, {sender6, receiver6}} {
		a, b, to := netip.AddrPortFrom(hosts[0], 1), netip.AddrPortFrom(hosts[0], 2), netip.AddrPortFrom(hosts[1], 3)
		marked := headed(a, to, "dddd")
		marked[vnetHeader+1] ^= 0x10 // of the traffic class
		if hosts[0].Is4() {
			marked[vnetHeader+1] ^= 0x13
		}
		resize(marked[vnetHeader:], udpAt(marked[vnetHeader:]))
		summed := headed(a, to, "eeee")
		summed[0] = 0
		long := strings.Repeat("x", 1200)
		for name, c := range map[string]struct {
			in   [][]byte
			want []int // datagrams of each train
		}{
			"one":             {[][]byte{headed(a, to, "aaaa")}, []int{1}},
			"equal":           {[][]byte{headed(a, to, "aaaa"), headed(a, to, "bbbb"), headed(a, to, "cccc")}, []int{3}},
			"the last short":  {[][]byte{headed(a, to, "aaaa"), headed(a, to, "bb"), headed(a, to, "cc")}, []int{2, 1}},
			"then a longer":   {[][]byte{headed(a, to, "aa"), headed(a, to, "bbbb"), headed(a, to, "cccc")}, []int{1, 2}},
			"other flows":     {[][]byte{headed(a, to, "aaaa"), headed(b, to, "bbbb"), headed(a, to, "cccc")}, []int{1, 1, 1}},
			"another mark":    {[][]byte{headed(a, to, "aaaa"), marked, headed(a, to, "cccc")}, []int{1, 1, 1}},
			"nothing":         {[][]byte{headed(a, to, ""), headed(a, to, ""), headed(a, to, "a")}, []int{1, 1, 1}},
			"summed up":       {[][]byte{headed(a, to, "aaaa"), headed(a, to, "bbbb"), summed, headed(a, to, "cccc")}, []int{2, 1, 1}},
			"too many":        {repeated(headed(a, to, "aaaa"), 100), []int{64, 36}},
			"too many bytes":  {repeated(headed(a, to, long), 60), []int{54, 6}},
			"summed up first": {[][]byte{summed, headed(a, to, "bbbb"), headed(a, to, "cccc")}, []int{1, 2}},
		} {
			var j joiner
			var sizes []int
			var got []string
			end := func() {
				if j.n == 0 {
					return
				}
				sizes = append(sizes, j.n)
				train := bytes.Clone(j.train())
				if (train[vnetType] == vnetUDPSegment) != (j.n > 1) || len(train)-vnetHeader > maxPacket {
					t.Errorf("%s: %d datagrams: % x", name, j.n, train[:vnetHeader])
				}
				cut(train, make([]byte, 0, vnetHeader+maxPacket), func(one []byte) {
					if one[0] == 0 {
						got = append(got, "eeee")
						return
					}
					got = append(got, finish(t, one))
				})
				j.n = 0
			}
			var want []string
			for _, in := range c.in {
				want = append(want, string(in[vnetHeader+udpAt(in[vnetHeader:])+udpHeader:]))
				if !j.add(in) {
					end()
					j.add(in)
				}
			}
			end()
			if diff := cmp.Diff(c.want, sizes); diff != "" {
				t.Errorf("%s: trains (-want +got):\n%s", name, diff)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: payloads (-want +got):\n%s", name, diff)
			}
		}
	}
}

func repeated(b []byte, n int) (all [][]byte) {
	for range n {
		all = append(all, b)
	}
	return all
}

// TestRewriteUnsummed has a datagram be right that was rewritten before it was summed up.
func TestRewriteUnsummed(t *testing.T) {
	for _, hosts := range [][2]netip.Addr{{sender4, receiver4}, {sender6, receiver6}} {
		one := headed(netip.AddrPortFrom(hosts[0], 1), netip.AddrPortFrom(hosts[1], 3), "hello")
		if !rewriter(newNAT().forward)(one) {
			t.Fatal("it does not get through")
		}
		if got := finish(t, one); got != "hello" {
			t.Errorf("%q", got)
		}
	}
}

func FuzzCut(f *testing.F) {
	train := headed(netip.AddrPortFrom(sender4, 1), netip.AddrPortFrom(receiver4, 2), "abcdefgh")
	train[vnetType], train[vnetSize] = vnetUDPSegment, 3
	f.Add(train)
	f.Add(headed(netip.AddrPortFrom(sender6, 1), netip.AddrPortFrom(receiver6, 2), "x"))
	f.Fuzz(func(t *testing.T, read []byte) {
		if len(read) <= vnetHeader || len(read) > vnetHeader+maxPacket {
			return
		}
		var j joiner
		total := 0
		cut(read, make([]byte, 0, vnetHeader+maxPacket), func(one []byte) {
			total += len(one)
			if !j.add(one) {
				j.n = 0
				j.add(one)
			}
			if n := len(j.train()); n > vnetHeader+maxPacket {
				t.Errorf("a train of %d bytes", n)
			}
		})
		if total == 0 && len(read) > vnetHeader+ip6Header+udpHeader+60 {
			t.Error("nothing came out")
		}
	})
}
