package udp

import (
	"testing"
	"time"
)

// load plays arrivals to a moderator: gap is the time between packets, and the
// reader is woken by each that comes while it does not pause. It returns the
// packets that were read after a pause, the pauses, and whether it is on at the end.
func load(m *moderator, now *time.Duration, gap time.Duration, packets, bytes int) (paused, pauses int, on bool) {
	next := *now + gap
	for packets > 0 {
		// Wait for one, as a reader without moderation does.
		if *now < next {
			*now = next
		}
		came := 0
		for ; next <= *now && packets > 0; next += gap {
			came++
			packets--
		}
		p := m.pause(came, came*bytes, *now)
		for p > 0 && packets > 0 {
			pauses++
			*now += p
			came = 0
			for ; next <= *now && packets > 0; next += gap {
				came++
				packets--
			}
			paused += came
			p = m.pause(came, came*bytes, *now)
		}
	}
	return paused, pauses, m.on
}

func TestModeration(t *testing.T) {
	const roomy = 8 << 20
	for _, tc := range []struct {
		name  string
		gap   time.Duration
		bytes int
		room  int
		on    bool
	}{
		{"1k/s", time.Millisecond, 1252, roomy, false},
		{"10k/s", 100 * time.Microsecond, 1252, roomy, false},
		{"20k/s", 50 * time.Microsecond, 1252, roomy, true},
		{"100k/s", 10 * time.Microsecond, 1252, roomy, true},
		{"trains", 7 * time.Microsecond, 16 * 1252, roomy, true},
		{"trains into a small buffer", 7 * time.Microsecond, 16 * 1252, 64 << 10, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &moderator{max: 100 * time.Microsecond, room: func() int { return tc.room }}
			now := time.Hour
			const packets = 10_000
			paused, pauses, on := load(m, &now, tc.gap, packets, tc.bytes)
			if on != tc.on {
				t.Errorf("on %v, want %v", on, tc.on)
			}
			if tc.on && paused < packets*9/10 {
				t.Errorf("%d of %d packets were read after a pause", paused, packets)
			}
			if !tc.on && paused > packets/10 {
				t.Errorf("%d of %d packets were read after %d pauses, want few", paused, packets, pauses)
			}
			if tc.on && tc.room == roomy && pauses > packets/2+100 {
				t.Errorf("%d pauses for %d packets", pauses, packets)
			}
		})
	}
}

// TestModerationKeepsTheBufferBelowItsShare shortens pauses where what comes in
// one would fill the socket's buffer.
func TestModerationKeepsTheBufferBelowItsShare(t *testing.T) {
	m := &moderator{max: 100 * time.Microsecond, room: func() int { return 512 << 10 }}
	now := time.Hour
	load(m, &now, 10*time.Microsecond, 1000, 8*1252)
	if !m.on || m.length >= m.max || m.length < modShortest {
		t.Fatalf("on %v, pause %v: want a shorter one", m.on, m.length)
	}
	if perPause := int(m.length/(10*time.Microsecond)) * 8 * 1252; perPause > 512<<10/modShare+8*1252 {
		t.Errorf("%d bytes may come in a pause of %v", perPause, m.length)
	}
}

// TestModerationLeavesPingPongAlone has a peer that sends one packet for each
// answer: a pause only delays it.
func TestModerationLeavesPingPongAlone(t *testing.T) {
	m := &moderator{max: 100 * time.Microsecond, room: func() int { return 8 << 20 }}
	now := time.Hour
	pauses := 0
	const rounds = 100_000
	for range rounds {
		now += 30 * time.Microsecond // the round trip
		for p := m.pause(1, 100, now); p > 0; p = m.pause(1, 100, now) {
			pauses++
			now += p + 30*time.Microsecond // the one packet, and the next after our answer to it
		}
	}
	if pauses > rounds/100 {
		t.Errorf("%d pauses in %d round trips", pauses, rounds)
	}
}

func TestModerationEndsWithTheBurst(t *testing.T) {
	m := &moderator{max: 100 * time.Microsecond, room: func() int { return 8 << 20 }}
	now := time.Hour
	load(m, &now, 5*time.Microsecond, 1000, 1252)
	if !m.on {
		t.Fatal("not on in a burst")
	}
	if p := m.pause(0, 0, now); p != 0 || m.on {
		t.Errorf("after an empty pause: %v, on %v", p, m.on)
	}
	m = &moderator{room: func() int { return 8 << 20 }}
	if paused, pauses, _ := load(m, &now, time.Microsecond, 1000, 1252); paused+pauses != 0 {
		t.Errorf("switched off, and it paused %d times", pauses)
	}
}
