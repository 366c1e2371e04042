package peer

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// Initials makes the first packets of connections that nobody goes on with, as a flood
// has them: each with a ClientHello that a server takes for good. One ClientHello serves
// for all, so that a packet costs little more than its encryption.
type Initials struct {
	hello []byte
}

// Sizes and values of Initial packets (RFC 9000 §17.2.2, RFC 9001 §5.2).
const (
	quicVersion1     = 1
	longInitial      = 0xc0 | (packetNumberLen - 1)
	longMask         = 0x0f // the bits that are protected
	initialIDLen     = 8    // the shortest that a client may choose
	minInitial       = 1200 // of a datagram
	paramInitialSCID = 0x0f // the transport parameter initial_source_connection_id
	twoByteVarint    = 0x4000
)

var (
	initialSalt = []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a}
	initialSCID = []byte{0xf1, 0x00, 0x0d, 0xed}
)

// NewInitials makes a ClientHello for HTTP/3.
func NewInitials(ctx context.Context) (*Initials, error) {
	conn := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // nobody goes on with it
		ServerName:         "localhost",
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		CurvePreferences:   []tls.CurveID{tls.X25519}, // fits into one packet
	}})
	defer func() { _ = conn.Close() }()
	params := h3frame.AppendVarint(nil, paramInitialSCID)
	params = h3frame.AppendVarint(params, uint64(len(initialSCID)))
	conn.SetTransportParameters(append(params, initialSCID...))
	if err := conn.Start(ctx); err != nil {
		return nil, err
	}
	var hello []byte
	for {
		switch ev := conn.NextEvent(); ev.Kind {
		case tls.QUICWriteData:
			hello = append(hello, ev.Data...)
		case tls.QUICNoEvent:
			if len(hello) == 0 {
				return nil, errors.New("crypto/tls made no ClientHello")
			}
			return &Initials{hello}, nil
		}
	}
}

// Datagram is the first datagram of connection n, whole.
func (m *Initials) Datagram(n uint64) []byte { return m.datagram(n, CryptoFrame(0, m.hello)) }

// Half is the same with the first half of the ClientHello only.
func (m *Initials) Half(n uint64) []byte {
	return m.datagram(n, CryptoFrame(0, m.hello[:len(m.hello)/2]))
}

// Gaps has every other byte of the first of the ClientHello, each in a frame.
func (m *Initials) Gaps(n uint64) []byte {
	var frames []byte
	for i := 0; i < len(m.hello) && len(frames) < minInitial*3/4; i += 2 {
		frames = append(frames, CryptoFrame(uint64(i), m.hello[i:i+1])...)
	}
	return m.datagram(n, frames)
}

// Beyond has handshake data at an offset that no ClientHello has.
func (m *Initials) Beyond(n uint64) []byte {
	const beyond = 1 << 20
	return m.datagram(n, CryptoFrame(beyond, m.hello[:100]))
}

// datagram seals frames into an Initial packet that fills its datagram.
func (m *Initials) datagram(n uint64, frames []byte) []byte {
	dcid := binary.BigEndian.AppendUint64(make([]byte, 0, initialIDLen), n*0x9e3779b97f4a7c15+1)
	keys, err := initialKeys(dcid)
	if err != nil {
		return nil // only for secrets of a wrong size
	}
	b := make([]byte, 0, minInitial)
	b = append(b, longInitial)
	b = binary.BigEndian.AppendUint32(b, quicVersion1)
	b = append(append(b, initialIDLen), dcid...)
	b = append(append(b, byte(len(initialSCID))), initialSCID...)
	b = append(b, 0) // no token
	const lengthLen = 2
	rest := minInitial - len(b) - lengthLen
	b = binary.BigEndian.AppendUint16(b, uint16(twoByteVarint|rest))
	payload := make([]byte, rest-packetNumberLen-tagLen) // PADDING is zero
	copy(payload, frames)
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = keys.aead.Seal(b, keys.iv[:], payload, b) // of packet number 0
	var mask [aes.BlockSize]byte
	keys.header.Encrypt(mask[:], b[at+sampleOffset:at+sampleOffset+aes.BlockSize])
	b[0] ^= mask[0] & longMask
	for i := range packetNumberLen {
		b[at+i] ^= mask[1+i]
	}
	return b
}

// initialKeys are those of a client's Initial packets to a connection ID.
func initialKeys(dcid []byte) (*packetKeys, error) {
	initial, err := hkdf.Extract(sha256.New, dcid, initialSalt)
	if err != nil {
		return nil, err
	}
	secret, err := expandLabel(initial, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	k := &packetKeys{}
	var key, iv, header []byte
	for _, part := range []struct {
		label string
		n     int
		to    *[]byte
	}{{"quic key", keyLen, &key}, {"quic iv", ivLen, &iv}, {"quic hp", keyLen, &header}} {
		if *part.to, err = expandLabel(secret, part.label, part.n); err != nil {
			return nil, err
		}
	}
	copy(k.iv[:], iv)
	if k.header, err = aes.NewCipher(header); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k.aead, err = cipher.NewGCM(block)
	return k, err
}
