package peer

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// TestInitial has the header of RFC 9001 §A.1 protected by the keys of its connection ID.
func TestInitial(t *testing.T) {
	dcid, _ := hex.DecodeString("8394c8f03e515708")
	keys, err := initialKeys(dcid)
	if err != nil || hex.EncodeToString(keys.iv[:]) != "fa044b2f42a3fd3b46fb255c" {
		t.Fatalf("%x, %v", keys.iv, err)
	}
	m, err := NewInitials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{"whole": m.Datagram(1), "half": m.Half(1), "gaps": m.Gaps(1), "beyond": m.Beyond(1)} {
		if len(p) != minInitial || p[0]&longTypeMask != 0xc0 {
			t.Errorf("%s: %d bytes, type %x", name, len(p), p[0])
		}
	}
	if bytes.Equal(m.Datagram(1)[6:14], m.Datagram(2)[6:14]) {
		t.Error("two connections have one ID")
	}
}

func TestGarbage(t *testing.T) {
	corpus := [][]byte{Pattern(1200), Pattern(40), {0x40, 1}}
	a, b := NewGarbage(corpus, [][]byte{{1, 2, 3, 4}}, 7), NewGarbage(corpus, [][]byte{{1, 2, 3, 4}}, 7)
	changed := 0
	for i := range 5000 {
		p := a.Next()
		if !bytes.Equal(p, b.Next()) {
			t.Fatalf("datagram %d differs with the same seed", i)
		}
		if len(p) > maxGarbage {
			t.Fatalf("datagram %d has %d bytes", i, len(p))
		}
		if !bytes.Equal(p, corpus[0]) && !bytes.Equal(p, corpus[1]) && !bytes.Equal(p, corpus[2]) {
			changed++
		}
	}
	if changed < 4000 {
		t.Errorf("only %d of 5000 were changed", changed)
	}
	if !bytes.Equal(corpus[0], Pattern(1200)) {
		t.Error("what it is made of was changed")
	}
}

func TestAckRanges(t *testing.T) {
	const gapAndRange = 2
	if one, three := AckRangesFrame(100, 1), AckRangesFrame(100, 3); len(three) != len(one)+2*gapAndRange {
		t.Errorf("%x, %x", one, three)
	}
}
