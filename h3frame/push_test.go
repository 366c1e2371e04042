package h3frame

import (
	"testing"
)

func TestPushFrames(t *testing.T) {
	for _, id := range []uint64{0, 63, 64, 1 << 40, MaxVarint} {
		gotID, section, err := ParsePushPromise(payloadOf(t, AppendPushPromise(nil, id, []byte("section")), FramePushPromise))
		if gotID != id || string(section) != "section" || err != nil {
			t.Errorf("PUSH_PROMISE %d: %d, %q, %v", id, gotID, section, err)
		}
		if got, err := ParseCancelPush(payloadOf(t, AppendCancelPush(nil, id), FrameCancelPush)); got != id || err != nil {
			t.Errorf("CANCEL_PUSH %d: %d, %v", id, got, err)
		}
		if got, err := ParseMaxPushID(payloadOf(t, AppendMaxPushID(nil, id), FrameMaxPushID)); got != id || err != nil {
			t.Errorf("MAX_PUSH_ID %d: %d, %v", id, got, err)
		}
		b := AppendPushStreamHeader(nil, id)
		typ, n := ParseStreamType(b)
		gotID, m := ParseVarint(b[n:])
		if typ != StreamPush || gotID != id || n+m != len(b) {
			t.Errorf("push stream %d: %x", id, b)
		}
	}
	for _, p := range []string{"", "\x40", "\xc0\x00\x00"} {
		_, _, err := ParsePushPromise([]byte(p))
		wantCode(t, err, ErrCodeFrame)
		_, err = ParseCancelPush([]byte(p))
		wantCode(t, err, ErrCodeFrame)
		_, err = ParseMaxPushID([]byte(p + "\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		wantCode(t, err, ErrCodeFrame)
	}
}

// TestPushesExist has the frames that name a push, with pushes 0 to 3.
func TestPushesExist(t *testing.T) {
	const pushes = 4
	var s transcript
	ctl := s.settings()
	update := func(id uint64) string {
		return string(AppendPriorityUpdate(nil, FramePriorityUpdatePush, id, DefaultPriority))
	}
	for _, tc := range []struct {
		name string
		role Role
		in   transcript
		want ErrorCode // 0: legal
	}{
		{"PUSH_PROMISE", ResponseStream, s.raw(string(AppendPushPromise(nil, 3, []byte("p")))).headers("h"), 0},
		{"PUSH_PROMISE after trailers", ResponseStream, s.headers("h").headers("t").raw(string(AppendPushPromise(nil, 0, nil))), 0},
		{"PUSH_PROMISE twice", ResponseStream, s.raw(string(AppendPushPromise(nil, 0, nil)) + string(AppendPushPromise(nil, 0, nil))), 0},
		{"PUSH_PROMISE not allowed", ResponseStream, s.raw(string(AppendPushPromise(nil, 4, nil))), ErrCodeID},
		{"PUSH_PROMISE empty", ResponseStream, s.frame(FramePushPromise, ""), ErrCodeFrame},
		{"PUSH_PROMISE cut", ResponseStream, s.frame(FramePushPromise, "\x80"), ErrCodeFrame},
		{"PUSH_PROMISE too long", ResponseStream, s.head(FramePushPromise, DefaultMaxFieldSectionSize+9), ErrCodeExcessiveLoad},
		{"PUSH_PROMISE on a push", PushStream, s.headers("h").raw(string(AppendPushPromise(nil, 0, nil))), ErrCodeFrameUnexpected},
		{"PUSH_PROMISE to a server", RequestStream, s.raw(string(AppendPushPromise(nil, 0, nil))), ErrCodeFrameUnexpected},
		{"PUSH_PROMISE in a tunnel", ResponseStream, s.headers("C").raw(string(AppendPushPromise(nil, 0, nil))), ErrCodeFrameUnexpected},
		{"CANCEL_PUSH to a client", ServerControlStream, ctl.raw(string(AppendCancelPush(nil, 3))), 0},
		{"CANCEL_PUSH to a server", ClientControlStream, ctl.raw(string(AppendCancelPush(nil, 0))), 0},
		{"CANCEL_PUSH of no push", ServerControlStream, ctl.raw(string(AppendCancelPush(nil, 4))), ErrCodeID},
		{"PRIORITY_UPDATE", ClientControlStream, ctl.raw(update(3)), 0},
		{"PRIORITY_UPDATE of no push", ClientControlStream, ctl.raw(update(4)), ErrCodeID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(tc.role, Limits{})
			d.AllowPushes(pushes)
			d.AllowPushes(1) // takes nothing back
			d.Buffer().Append(tc.in.b)
			var r recorder
			err := r.drain(t, d)
			if tc.want != 0 {
				wantCode(t, err, tc.want)
			} else if err != ErrNeedMore {
				t.Error(err)
			}
		})
	}
}

func TestUniStreams(t *testing.T) {
	for _, client := range []bool{false, true} {
		u := UniStreams{Client: client}
		for _, critical := range []StreamType{StreamControl, StreamQPACKEncoder, StreamQPACKDecoder} {
			if err := u.Open(critical); err != nil || !critical.Critical() {
				t.Errorf("%s: %v", critical, err)
			}
		}
		for _, critical := range []StreamType{StreamControl, StreamQPACKEncoder, StreamQPACKDecoder} {
			if !wantCode(t, u.Open(critical), ErrCodeStreamCreation).ConnectionError() {
				t.Errorf("a second %s stream does not end the connection", critical)
			}
		}
		for range 3 { // unknown types, as often as the peer likes
			for _, unknown := range []StreamType{StreamType(Grease(0)), 4, StreamType(MaxVarint)} {
				if err := u.Open(unknown); err != nil || unknown.Critical() {
					t.Errorf("%s: %v", unknown, err)
				}
			}
		}
		if err := u.Open(StreamPush); !client {
			wantCode(t, err, ErrCodeStreamCreation)
		} else if err != nil || StreamPush.Critical() {
			t.Error(err)
		}
	}
}

func TestPushStreams(t *testing.T) {
	u := UniStreams{Client: true}
	wantCode(t, u.OpenPush(0, 0), ErrCodeID)
	for _, id := range []uint64{2, 0, 1} {
		if err := u.OpenPush(id, 3); err != nil {
			t.Error(err)
		}
	}
	wantCode(t, u.OpenPush(1, 3), ErrCodeID)
	wantCode(t, u.OpenPush(3, 3), ErrCodeID)
	if err := u.OpenPush(3, 4); err != nil || len(u.pushed) != 4 {
		t.Errorf("%v, %d remembered", err, len(u.pushed))
	}
}
