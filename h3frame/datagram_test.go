package h3frame

import "testing"

func TestDatagram(t *testing.T) {
	for _, id := range []uint64{0, 4, 252, 256, MaxRequestStreamID} {
		for _, payload := range []string{"", "payload"} {
			got, p, err := ParseDatagram(AppendDatagram(nil, id, []byte(payload)))
			if got != id || string(p) != payload || err != nil {
				t.Errorf("stream %d: %d, %q, %v", id, got, p, err)
			}
		}
	}
	tooHigh := AppendVarint(nil, 1<<60)
	for name, b := range map[string][]byte{"empty": nil, "cut": {0x40}, "no such stream": tooHigh} {
		_, _, err := ParseDatagram(b)
		if !wantCode(t, err, ErrCodeDatagram).ConnectionError() {
			t.Errorf("%s: not a connection error", name)
		}
	}
	if _, _, err := ParseDatagram(AppendVarint(nil, 1<<60-1)); err != nil {
		t.Errorf("the last stream: %v", err)
	}
}
