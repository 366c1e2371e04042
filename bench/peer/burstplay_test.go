package peer

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// TestPlayWritesEachWay has packets arrive in the order and in the number asked for, all
// of a volley as long as its longest.
func TestPlayWritesEachWay(t *testing.T) {
	keys, err := newPacketKeys(0x1301, make([]byte, 32), 0) // TLS_AES_128_GCM_SHA256
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	from, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, _ := at.LocalAddr().(*net.UDPAddr)
	l := &lastWords{from, to, []byte{1, 2, 3, 4}, keys}
	order := []uint32{2, 0, 2, 1}
	for _, way := range []Way{InTrain, InBatch, OneByOne} {
		t.Run(way.String(), func(t *testing.T) {
			var volley []Packet
			for _, n := range order {
				volley = append(volley, Packet{n, AppendStreamFrame(nil, 4, int(n), make([]byte, n), false)})
			}
			if err := l.play([]Volley{{Packets: volley, Way: way}}); err != nil {
				t.Fatal(err)
			}
			var got [][]byte
			b := make([]byte, 2000)
			_ = at.SetReadDeadline(time.Now().Add(10 * time.Second))
			for range order {
				n, _, err := at.ReadFromUDP(b)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, bytes.Clone(b[:n]))
			}
			for i := range got {
				if len(got[i]) != len(got[0]) {
					t.Errorf("packet %d has %d bytes, the first %d", i, len(got[i]), len(got[0]))
				}
			}
			if !bytes.Equal(got[0], got[2]) || bytes.Equal(got[0], got[1]) {
				t.Error("packets of one number differ, or those of others do not")
			}
		})
	}
	if err := l.play([]Volley{{Packets: []Packet{{0, make([]byte, MaxFrames+1)}}}}); err == nil {
		t.Error("a packet that is too long was sent")
	}
}
