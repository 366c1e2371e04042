package udp

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"github.com/quic-go/quic-go"
)

// shardIDLen is the length of the connection IDs that shards give out. It is
// below the 8 bytes that a client's first choice must have (RFC 9000 §7.2), so
// that the two are told apart by length alone.
const shardIDLen = 7

// maxClientIDLen is the longest connection ID of QUIC version 1 (RFC 9000 §17.2).
const maxClientIDLen = 20

// minClientIDLen is the shortest that a client may choose for the server in its
// first packets (RFC 9000 §7.2).
const minClientIDLen = 8

// A connectionIDs makes the connection IDs of one shard. The first byte modulo
// the number of shards is the shard, the second is the generation if there is one,
// and all else is random: an observer learns of two IDs whether they may be of one
// shard and process, which is less than that the address they go to is the same,
// but lasts over a migration (RFC 9000 §5.1).
type connectionIDs struct {
	shard int
	routing
}

var _ quic.ConnectionIDGenerator = connectionIDs{}

// GenerateConnectionID returns a connection ID whose datagrams come to the shard.
func (g connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var b [2 + shardIDLen]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	id := b[2:]
	// The bytes with this remainder; one of them by two random bytes, which
	// favors none by more than 1 in 256.
	values := (255-g.shard)/g.shards + 1
	id[0] = byte(g.shard + g.shards*(int(binary.BigEndian.Uint16(b[:]))*values>>16))
	if g.generation != noGeneration {
		id[1] = byte(g.generation)
	}
	return quic.ConnectionIDFromBytes(id), nil
}

// ConnectionIDLen is 7.
func (connectionIDs) ConnectionIDLen() int { return shardIDLen }

// An Addressee says whom a datagram is for.
type Addressee int

const (
	// Anyone is that of what is no QUIC of ours: any shard may have a look at it.
	Anyone Addressee = iota
	// Newcomer is that of a client's first packets, with a connection ID that it has
	// chosen: for whoever takes new connections.
	Newcomer
	// Issuer is whoever made the connection ID.
	Issuer
)

// AddresseeOf returns whom a datagram is for, and if that is an Issuer the
// generation in its connection ID (see WithGeneration). It looks only at what all
// versions of QUIC have in common (RFC 8999 §5).
//
//	long header:  1 flags │ version (4) │ length (1) │ destination connection ID │ …
//	short header: 0 flags │ destination connection ID │ …
func AddresseeOf(d []byte) (to Addressee, generation uint8) {
	to, id := addressee(d)
	if to != Issuer {
		return to, 0
	}
	if len(id) < 2 {
		return Anyone, 0
	}
	return Issuer, id[1]
}

// addressee returns what there is of the connection ID too: a byte at least of
// ours, and minClientIDLen of a client's.
func addressee(d []byte) (Addressee, []byte) {
	if len(d) < 2 {
		return Anyone, nil
	}
	if d[0]&0x80 == 0 {
		return Issuer, d[1:]
	}
	if len(d) < 7 {
		return Anyone, nil
	}
	switch n := int(d[5]); {
	case n == shardIDLen:
		return Issuer, d[6:]
	case n >= minClientIDLen && n <= maxClientIDLen && len(d) >= 6+minClientIDLen:
		return Newcomer, d[6:]
	}
	return Anyone, nil
}

// A routing is what of a datagram decides about its shard.
type routing struct {
	shards     int
	generation int // 0 to 255, or noGeneration
}

// noGeneration is that of shards without WithGeneration.
const noGeneration = -1

// shardOf returns the shard that a datagram is for, by its destination
// connection ID, or false if any will do.
func (r routing) shardOf(d []byte) (int, bool) {
	switch to, id := addressee(d); {
	case to == Newcomer:
		// The same shard for all packets that carry it, from whatever port they come.
		return int(clientIDHash(binary.LittleEndian.Uint64(id)) % uint32(r.shards)), true
	case to == Issuer && r.issued(id):
		return int(id[0]) % r.shards, true
	}
	return 0, false
}

// issued tells whether shards of this generation made a connection ID.
func (r routing) issued(id []byte) bool {
	return r.generation == noGeneration || len(id) > 1 && int(id[1]) == r.generation
}

// clientIDHash spreads the first 8 bytes of a connection ID. They are random
// from honest clients; others may choose their shard, as they may choose their
// port.
func clientIDHash(id uint64) uint32 {
	_, low := bits.Mul64(id, clientIDMix)
	return uint32(low >> 32)
}

// clientIDMix is 2⁶⁴ divided by the golden ratio, odd.
const clientIDMix = 0x9e3779b97f4a7c15
