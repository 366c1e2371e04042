package decode

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/rounds"
	"github.com/tailfin-quic/tailfin/h3frame"
)

func transcriptOf(t *testing.T, name string, seed uint64) *transcript {
	t.Helper()
	tr, err := newTranscript(name, seed)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestReaders has all readers decode all transcripts: what comes out is what went in,
// twice, since readers are kept.
func TestReaders(t *testing.T) {
	for _, name := range Transcripts {
		for seed := range uint64(3) {
			tr := transcriptOf(t, name, seed)
			for _, reads := range Readers(name) {
				u, err := newTurner(reads, tr, time.Millisecond)
				if err != nil {
					t.Errorf("%s, %s, seed %d: %v", name, reads, seed, err)
					continue
				}
				if err := u.check(); err != nil || u.bytes <= 0 || u.batch < 1 {
					t.Errorf("%s, %s, seed %d, again: %v, %d bytes, batches of %d", name, reads, seed, err, u.bytes, u.batch)
				}
			}
		}
	}
}

// TestReadersAreCaught changes what is decoded behind the back of those who know what
// it was: a byte of content or of a field, or a frame that is not there.
func TestReadersAreCaught(t *testing.T) {
	for name, reads := range map[string][]string{
		Mixed:         Readers(Mixed),
		RequestFields: {QPACK, Fields, Heads},
	} {
		for _, read := range reads {
			tr := transcriptOf(t, name, 1)
			r, err := newReader(read, tr)
			if err != nil {
				t.Fatal(err)
			}
			u := &turner{reader: r, frames: tr.frames}
			if err := u.check(); err != nil {
				t.Fatal(err)
			}
			change(tr, name)
			if err := u.check(); err == nil {
				t.Errorf("%s decoded %s as if it was what it had been", read, name)
			}
		}
	}
	tr := transcriptOf(t, Small, 1)
	for _, read := range Readers(Small) {
		r, err := newReader(read, tr)
		if err != nil {
			t.Fatal(err)
		}
		r.want.bytes++
		if err := (&turner{reader: r}).passes(1); err == nil || !strings.Contains(err.Error(), "came out") {
			t.Errorf("%s counted a byte that was not there: %v", read, err)
		}
	}
}

// change changes a byte of the longest frame, on all wires.
func change(tr *transcript, name string) {
	s := &tr.streams[0]
	longest := slices.MaxFunc(s.units, func(a, b unit) int { return len(a.payload) - len(b.payload) })
	for _, wire := range [][]byte{s.wire, tr.h3, tr.h2} {
		if at := bytes.Index(wire, longest.payload); at >= 0 {
			wire[at+len(longest.payload)/2] ^= 1
		}
	}
	if name == RequestFields { // whose readers read it without a frame around it
		payload := s.units[0].payload
		payload[len(payload)-1] ^= 0x40
	}
}

func TestTranscripts(t *testing.T) {
	for name, want := range map[string]struct{ streams, frames int }{
		Headers: {2 * manyHeads, 2 * manyHeads}, Data1200: {1, manyFrames + 1}, Data8K: {1, largeFrames + 1}, Small: {1, smallFrames + 1},
		Mixed: {1, manyFrames + manyFrames/greaseEvery + 2}, RequestFields: {manyHeads, manyHeads}, ResponseFields: {manyHeads, manyHeads},
	} {
		tr := transcriptOf(t, name, 7)
		if len(tr.streams) != want.streams || tr.frames != want.frames {
			t.Errorf("%s has %d streams and %d frames, want %+v", name, len(tr.streams), tr.frames, want)
		}
		if !bytes.Equal(tr.h3, transcriptOf(t, name, 7).h3) || bytes.Equal(tr.h3, transcriptOf(t, name, 8).h3) {
			t.Errorf("%s is not its seed's", name)
		}
		for _, s := range tr.streams {
			if !bytes.Equal(bytes.Join(s.chunks, nil), s.wire) || slices.ContainsFunc(s.chunks, func(c []byte) bool { return len(c) > chunk }) {
				t.Errorf("%s is cut wrongly", name)
			}
			if s.units[0].typ != h3frame.FrameHeaders {
				t.Errorf("%s begins with %v", name, s.units[0].typ)
			}
		}
	}
	if _, err := newTranscript("rumour", 1); err == nil {
		t.Error("a transcript that there is not")
	}
}

func TestCheck(t *testing.T) {
	good := Config{Transcript: Mixed, Time: time.Millisecond, Plan: rounds.Plan{Rounds: 1}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(c *Config){
		`no transcript "rumour"`: func(c *Config) { c.Transcript = "rumour" },
		"a turn of 1µs":          func(c *Config) { c.Time = time.Microsecond },
		"0 pairs":                func(c *Config) { c.Rounds = 0 },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
