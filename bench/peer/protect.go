package peer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

// Sizes of a short header packet as sealed here (RFC 9001 §5, RFC 9000 §17.3.1).
const (
	packetNumberLen = 4
	sampleOffset    = 4 // from the packet number
	keyLen          = 16
	ivLen           = 12
	tagLen          = 16

	shortHeader = 0x40 | (packetNumberLen - 1) // with the fixed bit
	keyPhaseBit = 0x04
	shortMask   = 0x1f // the bits that are protected
)

// packetKeys protects 1-RTT packets of one direction, for
// TLS_AES_128_GCM_SHA256, which Go takes where the processor has AES.
type packetKeys struct {
	aead   cipher.AEAD
	header cipher.Block
	iv     [ivLen]byte
	first  byte // the first byte before protection
}

// newPacketKeys derives the keys of QUIC version 1 (RFC 9001 §5.1) after as
// many key updates as phase says; they leave the key of headers as it was (§6.1).
func newPacketKeys(suite uint16, secret []byte, phase uint64) (*packetKeys, error) {
	if suite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, fmt.Errorf("no packet protection for %s", tls.CipherSuiteName(suite))
	}
	k := &packetKeys{first: shortHeader}
	header, err := expandLabel(secret, "quic hp", keyLen)
	if err != nil {
		return nil, err
	}
	if k.header, err = aes.NewCipher(header); err != nil {
		return nil, err
	}
	for range phase {
		if secret, err = expandLabel(secret, "quic ku", len(secret)); err != nil {
			return nil, err
		}
		k.first ^= keyPhaseBit
	}
	key, err := expandLabel(secret, "quic key", keyLen)
	if err != nil {
		return nil, err
	}
	iv, err := expandLabel(secret, "quic iv", ivLen)
	if err != nil {
		return nil, err
	}
	copy(k.iv[:], iv)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k.aead, err = cipher.NewGCM(block)
	return k, err
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func expandLabel(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(sha256.New, secret, string(info), n)
}

// overhead is what seal adds to a payload.
func overhead(dcid []byte) int { return 1 + len(dcid) + packetNumberLen + tagLen }

// seal returns a protected short header packet. The payload has at least four
// bytes, or there is nothing to sample (RFC 9001 §5.4.2).
func (k *packetKeys) seal(dcid []byte, number uint32, payload []byte) []byte {
	b := make([]byte, 0, len(payload)+overhead(dcid))
	b = append(b, k.first)
	b = append(b, dcid...)
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, number)
	nonce := k.iv
	for i := range packetNumberLen {
		nonce[ivLen-packetNumberLen+i] ^= b[at+i]
	}
	b = k.aead.Seal(b, nonce[:], payload, b)
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], b[at+sampleOffset:at+sampleOffset+aes.BlockSize])
	b[0] ^= mask[0] & shortMask
	for i := range packetNumberLen {
		b[at+i] ^= mask[1+i]
	}
	return b
}
