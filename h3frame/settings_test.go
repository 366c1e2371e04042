package h3frame

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func settingsPayload(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = AppendVarint(b, v)
	}
	return b
}

func TestParseSettings(t *testing.T) {
	var many []uint64
	for i := range uint64(maxSettings) {
		many = append(many, Grease(i), i)
	}
	for _, tc := range []struct {
		name    string
		payload []byte
		want    Settings
		code    ErrorCode
	}{
		{"none", nil, Settings{}, 0},
		{"all", settingsPayload(0x6, 70000, 0x1, 4096, 0x7, 16, 0x8, 1, 0x33, 1, 0x21, MaxVarint),
			Settings{SettingValue(70000), 4096, 16, true, true, []Setting{{0x21, MaxVarint}}}, 0},
		{"zeros", settingsPayload(0x6, 0, 0x8, 0, 0x33, 0), Settings{MaxFieldSectionSize: SettingValue(0)}, 0},
		{"duplicate", settingsPayload(0x6, 1, 0x1, 0, 0x6, 1), Settings{}, ErrCodeSettings},
		{"duplicate of an unknown one", settingsPayload(0x21, 1, 0x21, 2), Settings{}, ErrCodeSettings},
		{"reserved 0x0", settingsPayload(0x0, 1), Settings{}, ErrCodeSettings},
		{"reserved 0x2", settingsPayload(0x2, 0), Settings{}, ErrCodeSettings},
		{"reserved 0x3", settingsPayload(0x3, 1), Settings{}, ErrCodeSettings},
		{"reserved 0x4", settingsPayload(0x4, 1), Settings{}, ErrCodeSettings},
		{"reserved 0x5", settingsPayload(0x6, 9, 0x5, 1), Settings{}, ErrCodeSettings},
		{"connect protocol 2", settingsPayload(0x8, 2), Settings{}, ErrCodeSettings},
		{"datagram 2", settingsPayload(0x33, 2), Settings{}, ErrCodeSettings},
		{"no value", []byte{0x6}, Settings{}, ErrCodeFrame},
		{"cut identifier", []byte{0x40}, Settings{}, ErrCodeFrame},
		{"cut value", []byte{0x6, 0x80, 0}, Settings{}, ErrCodeFrame},
		{"too many", settingsPayload(append(many, 0x6, 1)...), Settings{}, ErrCodeExcessiveLoad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseSettings(tc.payload)
			if tc.code != 0 {
				wantCode(t, err, tc.code)
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if s, err := ParseSettings(settingsPayload(many...)); err != nil || len(s.Other) != maxSettings {
		t.Errorf("%d settings, %v", len(s.Other), err)
	}
}

// payloadOf takes the one frame apart that b has to be.
func payloadOf(t testing.TB, b []byte, want FrameType) []byte {
	t.Helper()
	typ, length, n, ok := referenceHeader(b)
	if !ok || typ != want || uint64(len(b)-n) != length {
		t.Fatalf("%x is no %s frame", b, want)
	}
	return b[n:]
}

func TestAppendSettings(t *testing.T) {
	in := Settings{SettingValue(1 << 20), 1, 2, true, true, []Setting{
		{0x21, 7}, {SettingMaxFieldSectionSize, 1}, {reservedEnablePush, 1}, {0x40, 1 << 40},
	}}
	want := in
	want.Other = []Setting{{0x21, 7}, {0x40, 1 << 40}}
	got, err := ParseSettings(payloadOf(t, AppendSettings(nil, in), FrameSettings))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if p := payloadOf(t, AppendSettings(nil, Settings{}), FrameSettings); len(p) != 0 {
		t.Errorf("the zero value sends %x", p)
	}
}

// TestGoAwayOrder has RFC 9114 §5.2: IDs are never raised, and a server's are those
// of request streams.
func TestGoAwayOrder(t *testing.T) {
	for _, tc := range []struct {
		name string
		role Role
		ids  []uint64
		want ErrorCode
	}{
		{"lowered", ServerControlStream, []uint64{MaxRequestStreamID, 8, 8, 0}, 0},
		{"raised", ServerControlStream, []uint64{8, 12}, ErrCodeID},
		{"no request stream", ServerControlStream, []uint64{9}, ErrCodeID},
		{"unidirectional", ServerControlStream, []uint64{2}, ErrCodeID},
		{"push lowered", ClientControlStream, []uint64{MaxVarint, 9, 0}, 0},
		{"push raised", ClientControlStream, []uint64{3, 4}, ErrCodeID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := transcript{}.settings()
			for _, id := range tc.ids {
				s = transcript{AppendGoAway(s.base(), id)}
			}
			d := NewDecoder(tc.role, Limits{})
			d.Buffer().Append(s.b)
			var r recorder
			if err := r.drain(t, d); tc.want != 0 {
				wantCode(t, err, tc.want)
			} else if err != ErrNeedMore {
				t.Error(err)
			}
		})
	}
}

func TestGoAway(t *testing.T) {
	for _, id := range []uint64{0, 4, 1 << 20, MaxRequestStreamID, MaxVarint} {
		got, err := ParseGoAway(payloadOf(t, AppendGoAway(nil, id), FrameGoAway))
		if got != id || err != nil {
			t.Errorf("GOAWAY %d: %d, %v", id, got, err)
		}
	}
	if MaxRequestStreamID%4 != 0 || MaxRequestStreamID+4 <= MaxVarint {
		t.Error("MaxRequestStreamID is not the last request stream")
	}
	if got, err := ParseGoAway(payloadOf(t, AppendGoAway(nil, math.MaxUint64), FrameGoAway)); got != MaxVarint || err != nil {
		t.Errorf("GOAWAY above MaxVarint: %d, %v", got, err)
	}
	for _, p := range []string{"", "\x40", "\x00\x00", "\xc0\x00\x00\x00\x00\x00\x00", "\xc0\x00\x00\x00\x00\x00\x00\x00\x00"} {
		_, err := ParseGoAway([]byte(p))
		wantCode(t, err, ErrCodeFrame)
	}
}

func TestSettingsCheckResumed(t *testing.T) {
	size := SettingValue
	old := Settings{size(100), 50, 5, true, true, nil}
	for _, tc := range []struct {
		name string
		old  Settings
		now  Settings
		ok   bool
	}{
		{"same", old, old, true},
		{"nothing before", Settings{}, Settings{nil, 50, 5, true, true, []Setting{{0x21, 1}}}, true},
		{"more", old, Settings{size(200), 50, 6, true, true, nil}, true},
		{"no limit any more", old, Settings{nil, 50, 5, true, true, nil}, false},
		{"a limit that was none", Settings{}, Settings{MaxFieldSectionSize: size(1 << 30)}, false},
		{"lower size", old, Settings{size(99), 50, 5, true, true, nil}, false},
		{"other capacity", old, Settings{size(100), 51, 5, true, true, nil}, false},
		{"no capacity", old, Settings{size(100), 0, 5, true, true, nil}, false},
		{"fewer blocked streams", old, Settings{size(100), 50, 4, true, true, nil}, false},
		{"no CONNECT", old, Settings{size(100), 50, 5, false, true, nil}, false},
		{"no datagrams", old, Settings{size(100), 50, 5, true, false, nil}, false},
	} {
		err := tc.old.CheckResumed(tc.now)
		if tc.ok && err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if !tc.ok {
			wantCode(t, err, ErrCodeSettings)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add(settingsPayload(0x6, 70000, 0x1, 4096, 0x7, 16, 0x8, 1, 0x33, 1, 0x21, MaxVarint))
	f.Add(settingsPayload(0x6, 1, 0x6, 1))
	f.Add([]byte{0x6, 0x80})
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := ParseSettings(payload)
		if err != nil {
			var frameErr *FrameError
			if !errors.As(err, &frameErr) || frameErr.Type != FrameSettings {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := ParseSettings(payloadOf(t, AppendSettings(nil, s), FrameSettings))
		if diff := cmp.Diff(s, again); diff != "" || err != nil {
			t.Fatal(err, diff)
		}
	})
}
