package h3frame

import (
	"errors"
	"testing"
)

func TestParsePriority(t *testing.T) {
	for value, want := range map[string]Priority{
		"":                   {3, false},
		"u=0":                {0, false},
		"u=7, i":             {7, true},
		"i=?1,u=1":           {1, true},
		"i=?0":               {3, false},
		"u=5;x=1, other=(a)": {5, false},
		"u=8":                {3, false}, // out of range: as if not given
		"u=-1, i":            {3, true},
		"u=1.5":              {3, false}, // of another type
		"u=(1 2)":            {3, false},
		"u":                  {3, false},
		"i=1":                {3, false},
		"u=2, u=4":           {4, false}, // RFC 9651 §4.2.2: the last counts
	} {
		if got, err := ParsePriority(value); got != want || err != nil {
			t.Errorf("%q: %+v, %v; want %+v", value, got, err, want)
		}
	}
	for _, value := range []string{"u=", "=1", "U=1", "u=1,", "\x00", "u=99999999999999999999"} {
		got, err := ParsePriority(value)
		wantCode(t, err, ErrCodeGeneralProtocol)
		if got != DefaultPriority {
			t.Errorf("%q: %+v", value, got)
		}
	}
}

func TestPriorityString(t *testing.T) {
	for want, p := range map[string]Priority{
		"": DefaultPriority, "u=0": {}, "u=7, i": {7, true}, "i": {3, true},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
		if again, err := ParsePriority(p.String()); again != p || err != nil {
			t.Errorf("%+v came back as %+v, %v", p, again, err)
		}
	}
	if got := (Priority{Urgency: 99}).String(); got != "u=7" {
		t.Errorf("urgency 99: %q", got)
	}
}

func TestPriorityUpdate(t *testing.T) {
	for _, typ := range []FrameType{FramePriorityUpdateRequest, FramePriorityUpdatePush} {
		p := payloadOf(t, AppendPriorityUpdate(nil, typ, 1<<20, Priority{1, true}), typ)
		if id, got, err := ParsePriorityUpdate(p); id != 1<<20 || got != (Priority{1, true}) || err != nil {
			t.Errorf("%d, %+v, %v", id, got, err)
		}
	}
	for _, p := range []string{"", "\x40"} {
		_, got, err := ParsePriorityUpdate([]byte(p))
		wantCode(t, err, ErrCodeFrame)
		if got != DefaultPriority {
			t.Errorf("%+v", got)
		}
	}
	// A value that cannot be read: the ID is known all the same.
	id, got, err := ParsePriorityUpdate([]byte("\x04u="))
	if id != 4 || got != DefaultPriority || !errors.Is(err, &FrameError{Code: ErrCodeGeneralProtocol}) && wantCode(t, err, ErrCodeGeneralProtocol) == nil {
		t.Errorf("%d, %+v, %v", id, got, err)
	}
}

// TestPriorityUpdatePlace has RFC 9218 §7.2: on the client's control stream only.
func TestPriorityUpdatePlace(t *testing.T) {
	update := string(AppendPriorityUpdate(nil, FramePriorityUpdateRequest, 8, DefaultPriority))
	odd := string(AppendPriorityUpdate(nil, FramePriorityUpdateRequest, 9, DefaultPriority))
	ctl, msg := transcript{}.settings(), transcript{}.headers("h")
	for _, tc := range []struct {
		name string
		role Role
		in   transcript
		want ErrorCode
	}{
		{"client control", ClientControlStream, ctl.raw(update), 0},
		{"not a request stream", ClientControlStream, ctl.raw(odd), ErrCodeID},
		{"empty", ClientControlStream, ctl.frame(FramePriorityUpdateRequest, ""), ErrCodeFrame},
		{"too long", ClientControlStream, ctl.head(FramePriorityUpdateRequest, DefaultMaxControlPayload+1), ErrCodeExcessiveLoad},
		{"server control", ServerControlStream, ctl.raw(update), ErrCodeFrameUnexpected},
		{"request", RequestStream, msg.raw(update), ErrCodeFrameUnexpected},
		{"response", ResponseStream, msg.raw(update), ErrCodeFrameUnexpected},
		{"push", PushStream, msg.raw(update), ErrCodeFrameUnexpected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := NewDecoder(tc.role, Limits{})
			d.Buffer().Append(tc.in.b)
			var r recorder
			if err := r.drain(t, d); tc.want != 0 {
				wantCode(t, err, tc.want)
			} else if err != ErrNeedMore {
				t.Error(err)
			}
		})
	}
}
