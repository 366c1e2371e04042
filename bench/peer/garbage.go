package peer

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Garbage makes datagrams that are wrong in as many ways as there are: real packets of
// every kind, cut, lengthened, spliced, with bits turned over, with connection IDs,
// versions, lengths and types of others, and noise. The same seed makes the same.
type Garbage struct {
	rng    *rand.Rand
	corpus [][]byte
	ids    [][]byte // connection IDs that are in use, to aim at
	random []byte   // of which pieces are taken: cheaper than to draw each
}

// NewGarbage makes garbage of the datagrams of a Recording, and of ids, which may be
// connection IDs of other connections.
func NewGarbage(corpus [][]byte, ids [][]byte, seed uint64) *Garbage {
	g := &Garbage{rng: rand.New(rand.NewPCG(seed, seed)), corpus: corpus, ids: ids, random: make([]byte, 1<<16)}
	for i := range g.random {
		g.random[i] = byte(g.rng.Uint32())
	}
	return g
}

// maxGarbage is the longest datagram, beyond what fits into a packet of a usual path.
const maxGarbage = 1500

// Next is a datagram, in memory of its own.
func (g *Garbage) Next() []byte {
	p := slices.Clone(g.corpus[g.rng.IntN(len(g.corpus))])
	for range 1 + g.rng.IntN(3) {
		p = g.mutate(p)
	}
	if len(p) > maxGarbage {
		p = p[:maxGarbage]
	}
	return p
}

// mutate does one thing to p.
func (g *Garbage) mutate(p []byte) []byte {
	const kinds = 14
	what := g.rng.IntN(kinds)
	if len(p) < longDCIDLen+2 {
		what = kinds - 1
	}
	switch what {
	case 0: // a bit
		p[g.rng.IntN(len(p))] ^= 1 << g.rng.IntN(8)
	case 1: // a bit of the head
		p[g.rng.IntN(min(len(p), 32))] ^= 1 << g.rng.IntN(8)
	case 2: // cut anywhere
		p = p[:g.rng.IntN(len(p)+1)]
	case 3: // cut in the head
		p = p[:g.rng.IntN(min(len(p), 48)+1)]
	case 4: // lengthened
		p = append(p, g.noise(g.rng.IntN(300))...)
	case 5: // another behind it, as if in one datagram
		p = append(p, g.corpus[g.rng.IntN(len(g.corpus))]...)
	case 6: // the head of one and the rest of another
		other := g.corpus[g.rng.IntN(len(g.corpus))]
		n := g.rng.IntN(min(len(p), len(other)) + 1)
		p = append(p[:n:n], other[n:]...)
	case 7: // another version
		versions := []uint32{0, 1, 2, 0x0a0a0a0a, 0xff00001d, 0x6b3343cf, g.rng.Uint32()}
		binary.BigEndian.PutUint32(p[1:], versions[g.rng.IntN(len(versions))])
	case 8: // another type, its low bits too
		p[0] = byte(g.rng.Uint32())
	case 9: // a length of a connection ID that is a lie
		p[longDCIDLen] = byte(g.rng.Uint32())
	case 10: // aimed at a connection
		if len(g.ids) > 0 {
			id := g.ids[g.rng.IntN(len(g.ids))]
			p[0] = p[0]&^longForm | 0x40
			copy(p[shortDCIDPos:], id)
		}
	case 11: // an integer that is larger than all that follows
		at := g.rng.IntN(min(len(p), 48))
		copy(p[at:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	case 12: // as it was: a replay
	default: // nothing but noise
		p = g.noise(g.rng.IntN(maxGarbage))
	}
	return p
}

func (g *Garbage) noise(n int) []byte {
	at := g.rng.IntN(len(g.random) - maxGarbage)
	return slices.Clone(g.random[at : at+n])
}
