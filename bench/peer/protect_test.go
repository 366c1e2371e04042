package peer

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"testing"
)

// TestExpandLabel has the client's Initial keys of RFC 9001 §A.1.
func TestExpandLabel(t *testing.T) {
	secret, _ := hex.DecodeString("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
	for label, want := range map[string]string{
		"quic key": "1f369613dd76d5467730efcbe3b1a22d",
		"quic iv":  "fa044b2f42a3fd3b46fb255c",
		"quic hp":  "9f50449e04a0e810283a1e9933adedd2",
	} {
		got, err := expandLabel(secret, label, len(want)/2)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v, want %s", label, got, err, want)
		}
	}
}

func TestSeal(t *testing.T) {
	k, err := newPacketKeys(tls.TLS_AES_128_GCM_SHA256, make([]byte, 32), 0)
	if err != nil {
		t.Fatal(err)
	}
	if updated, err := newPacketKeys(tls.TLS_AES_128_GCM_SHA256, make([]byte, 32), 1); err != nil || updated.first != k.first^keyPhaseBit || updated.iv == k.iv {
		t.Fatalf("after a key update: %+v, %v", updated, err)
	}
	dcid := []byte{1, 2, 3, 4}
	packet := k.seal(dcid, 7, []byte("payload"))
	if len(packet) != len("payload")+overhead(dcid) || packet[0]&0xe0 != shortHeader&0xe0 || !bytes.Equal(packet[1:5], dcid) {
		t.Fatalf("%x", packet)
	}
	if _, err := newPacketKeys(tls.TLS_CHACHA20_POLY1305_SHA256, make([]byte, 32), 0); err == nil {
		t.Fatal("keys for a suite that is not known")
	}
}
