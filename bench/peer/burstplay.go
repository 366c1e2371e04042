package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A Packet is one of a burst that is made by hand. See Burst.Play.
type Packet struct {
	// Number tells packets apart. On the wire it is as much above FirstNumber. Two of
	// the same number and the same frames are the same packet, twice.
	Number uint32
	// Frames is the payload, of MaxFrames bytes at most: AppendStreamFrame and the like
	// make it, one behind the other.
	Frames []byte
}

// A Way is how packets are given to the kernel.
type Way int

const (
	// InTrain is one system call for all, up to 50, as if they were one datagram
	// (UDP_SEGMENT): a receiver with UDP_GRO reads them at once.
	InTrain Way = iota
	// InBatch is one system call, sendmmsg(2).
	InBatch
	// OneByOne is a system call for each.
	OneByOne
)

var wayNames = [...]string{InTrain: "train", InBatch: "batch", OneByOne: "one by one"}

// String says which way it is.
func (w Way) String() string {
	if w < 0 || int(w) >= len(wayNames) {
		return fmt.Sprintf("way(%d)", int(w))
	}
	return wayNames[w]
}

// A Volley is packets that go out in the order given, one way, and a pause after them.
type Volley struct {
	Packets []Packet
	Way     Way
	Pause   time.Duration
}

// longestID is the length in bytes of the longest connection ID (RFC 9000 §17.2).
const longestID = 20

// MaxFrames is how many bytes of frames go into a packet.
const MaxFrames = burstPacket - 1 - longestID - packetNumberLen - tagLen

// minFrames is what a payload must have for its header to be protected.
const minFrames = 4

// Frame types (RFC 9000 §19.2, §19.4).
const (
	framePing        = 0x01
	frameResetStream = 0x04
)

// AppendPingFrame appends a PING frame.
func AppendPingFrame(b []byte) []byte { return append(b, framePing) }

// AppendResetFrame appends a RESET_STREAM frame. size is the final size of the stream.
func AppendResetFrame(b []byte, id int64, code, size uint64) []byte {
	b = append(b, frameResetStream)
	b = h3frame.AppendVarint(b, uint64(id))
	b = h3frame.AppendVarint(b, code)
	return h3frame.AppendVarint(b, size)
}

// Play sends packets as they are, in the order and in the volleys given, and nothing
// besides: what is not among them was lost, what is there twice was duplicated. The
// first Play or Send takes quic-go off the wire; there may be more of them.
func (b *Burst) Play(volleys []Volley) error {
	l, err := b.lastWords()
	if err != nil {
		return err
	}
	return l.play(volleys)
}

// An Asked is a request that has been read to its end.
type Asked struct {
	StreamID int64
	Path     string
}

// ListenPlays starts a BurstServer that sends, as Burst.Play does, what play says. It
// reads as many requests of each connection as count says for the path of the first.
func ListenPlays(addr string, cert tls.Certificate, count func(path string) int, play func([]Asked) []Volley) (*BurstServer, error) {
	return listenBursts(addr, cert, func(ctx context.Context, conn *quic.Conn, b *burstConn) error {
		var asked []Asked
		for want := 1; len(asked) < want; {
			str, err := conn.AcceptStream(ctx)
			if err != nil {
				return err
			}
			head, _, err := readRequest(str)
			if err != nil {
				return err
			}
			asked = append(asked, Asked{int64(str.StreamID()), head.Path})
			if len(asked) == 1 {
				want = count(head.Path)
			}
		}
		l, err := b.lastWords(conn)
		if err != nil {
			return err
		}
		return l.play(play(asked))
	})
}

// play seals all first, so that nothing but the pauses comes between.
func (l *lastWords) play(volleys []Volley) error {
	sealed := make([][][]byte, len(volleys))
	for i, v := range volleys {
		size := minFrames
		for _, p := range v.Packets {
			size = max(size, len(p.Frames))
		}
		if size > MaxFrames {
			return fmt.Errorf("%d bytes of frames in a packet; it takes %d", size, MaxFrames)
		}
		for _, p := range v.Packets {
			// As long as the others, as a train wants them: PADDING is zero.
			payload := append(slices.Clip(p.Frames), make([]byte, size-len(p.Frames))...)
			sealed[i] = append(sealed[i], l.keys.seal(l.dcid, FirstNumber+p.Number, payload))
		}
	}
	for i, v := range volleys {
		if err := l.write(v.Way, sealed[i]); err != nil {
			return fmt.Errorf("send %d packets: %w", len(sealed[i]), err)
		}
		if v.Pause > 0 {
			time.Sleep(v.Pause)
		}
	}
	return nil
}

// write sends packets of one size.
func (l *lastWords) write(way Way, packets [][]byte) error {
	switch way {
	case InTrain:
		for train := range slices.Chunk(packets, burstTrain) {
			if err := writeTrain(l.udp, l.to, len(train[0]), train); err != nil {
				return err
			}
		}
	case InBatch:
		batch := make([]ipv4.Message, len(packets))
		for i, p := range packets {
			batch[i] = ipv4.Message{Buffers: [][]byte{p}, Addr: l.to}
		}
		socket := ipv4.NewPacketConn(l.udp)
		for len(batch) > 0 {
			n, err := socket.WriteBatch(batch, 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return errors.New("sendmmsg sends nothing")
			}
			batch = batch[n:]
		}
	default:
		for _, p := range packets {
			if _, err := l.udp.WriteToUDP(p, l.to); err != nil {
				return err
			}
		}
	}
	return nil
}
