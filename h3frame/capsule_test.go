package h3frame

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// capsuleKnown is a type that the tests ask for, beside DATAGRAM.
const capsuleKnown CapsuleType = 0x2843

func capsuleTranscript() []byte {
	var b []byte
	b = AppendCapsule(b, CapsuleDatagram, []byte("first"))
	b = AppendCapsule(b, GreaseCapsule(7), []byte("skipped, and longer than sixty-three bytes, so that its length takes two"))
	b = AppendCapsule(b, capsuleKnown, nil)
	b = AppendCapsule(b, CapsuleDatagram, nil)
	b = AppendCapsule(b, GreaseCapsule(1<<30), nil)
	return AppendCapsule(b, capsuleKnown, []byte("last"))
}

// drainCapsules writes down what a decoder returns until an error.
func drainCapsules(log *strings.Builder, d *CapsuleDecoder) error {
	for {
		c, err := d.Next()
		if err != nil {
			return err
		}
		fmt.Fprintf(log, "\n%s %q", c.Type, c.Payload)
	}
}

// capsuleModel decodes a whole body at once, in the obvious way.
func capsuleModel(in []byte, maxPayload int, end ending) (log, ended string) {
	var out strings.Builder
	for len(in) > 0 {
		typ, length, n, ok := referenceHeader(in)
		t := CapsuleType(typ)
		known := t == CapsuleDatagram || t == capsuleKnown
		switch {
		case ok && known && length > uint64(maxPayload):
			return out.String(), fmt.Sprintf("%s DATA: %s capsule: %d bytes declared, limit %d", ErrCodeExcessiveLoad, t, length, maxPayload)
		case ok && uint64(len(in)-n) >= length:
			if known {
				fmt.Fprintf(&out, "\n%s %q", t, in[n:n+int(length)])
			}
			in = in[n+int(length):]
			continue
		case end.name == fin:
			return out.String(), fmt.Sprintf("%s DATA: stream ends within a capsule", ErrCodeMessage)
		case end.name == reset:
			return out.String(), end.err.Error()
		case !ok:
			return out.String(), fmt.Sprintf("truncated header %d (%s)", len(in), end.err)
		}
		return out.String(), fmt.Sprintf("truncated %s %d/%d (%s)", typ, len(in)-n, length, end.err)
	}
	return out.String(), end.err.Error()
}

func agreeCapsules(t *testing.T, d *CapsuleDecoder, got string, err error, in []byte, maxPayload int, end ending) {
	t.Helper()
	want, wantEnd := capsuleModel(in, maxPayload, end)
	isReset := end.name == reset
	if got != want && (!isReset || !strings.HasPrefix(want, got)) {
		t.Fatalf("%s: delivered %s\nwant %s", end.name, got, want)
	}
	if describe(err) != wantEnd && (!isReset || err != end.err) {
		t.Fatalf("%s: ends with %q, want %q", end.name, describe(err), wantEnd)
	}
	d.Buffer().Append([]byte{0, 0})
	d.Buffer().Finish(io.EOF)
	if _, again := d.Next(); again != err {
		t.Fatalf("%v became %v", err, again)
	}
}

// TestCapsuleSplit is TestSplit for capsules.
func TestCapsuleSplit(t *testing.T) {
	full := capsuleTranscript()
	for cut := range len(full) + 1 {
		for _, end := range endings {
			eachSplit(full[:cut], func(how string, feed func(b *Buffer, next func())) {
				d := NewCapsuleDecoder(0, capsuleKnown)
				var log strings.Builder
				feed(d.Buffer(), func() {
					if err := drainCapsules(&log, d); err != ErrNeedMore {
						t.Fatalf("cut %d, %s: %v before the end", cut, how, err)
					}
				})
				end.apply(d.Buffer())
				err := drainCapsules(&log, d)
				agreeCapsules(t, d, log.String(), err, full[:cut], DefaultMaxCapsulePayload, end)
			})
		}
	}
}

func TestCapsuleLimits(t *testing.T) {
	d := NewCapsuleDecoder(3)
	d.Buffer().Append(AppendCapsule(nil, capsuleKnown, make([]byte, 100))) // not asked for: skipped, however long
	d.Buffer().Append(AppendCapsule(nil, CapsuleDatagram, make([]byte, 3)))
	d.Buffer().Append(AppendCapsule(nil, CapsuleDatagram, make([]byte, 4))[:3])
	if c, err := d.Next(); err != nil || len(c.Payload) != 3 {
		t.Fatal(c, err)
	}
	_, err := d.Next()
	if wantCode(t, err, ErrCodeExcessiveLoad).ConnectionError() {
		t.Error("a capsule above our limit ends the connection")
	}
	if d = NewCapsuleDecoder(0); d.max != DefaultMaxCapsulePayload {
		t.Errorf("limit %d by default", d.max)
	}
	d.Buffer().Release()
	if _, err := d.Next(); err != ErrReleased {
		t.Errorf("after Release: %v", err)
	}
}

// TestCapsulesOfFrames reads capsules out of DATA frames that cut them anywhere.
func TestCapsulesOfFrames(t *testing.T) {
	in := capsuleTranscript()
	wire := transcript{}.headers("h")
	for i := 0; i < len(in); i += 7 {
		wire = wire.data(string(in[i:min(i+7, len(in))]))
	}
	frames, capsules := NewDecoder(RequestStream, Limits{}), NewCapsuleDecoder(0, capsuleKnown)
	var log strings.Builder
	for i := range wire.b {
		_, _ = frames.Buffer().Write(wire.b[i : i+1])
		for {
			f, err := frames.Next()
			if err != nil {
				break
			}
			if f.Type == FrameData {
				_, _ = capsules.Buffer().Write(f.Payload)
			}
			if err := drainCapsules(&log, capsules); err != ErrNeedMore {
				t.Fatal(err)
			}
		}
	}
	capsules.Buffer().Finish(errClose)
	err := drainCapsules(&log, capsules)
	agreeCapsules(t, capsules, log.String(), err, in, DefaultMaxCapsulePayload, ending{"close 0x100", errClose})
}

func FuzzCapsules(f *testing.F) {
	full := capsuleTranscript()
	for end := range endings {
		f.Add(uint8(end), full, []byte{3, 130, 7})
		f.Add(uint8(end), full[:len(full)-2], []byte{0x81, 0x41})
	}
	f.Add(uint8(1), AppendVarint(AppendVarint(nil, 0), 1<<40), []byte{0x81})
	f.Fuzz(func(t *testing.T, end uint8, in, cuts []byte) {
		const maxPayload = 512
		e := endings[int(end)%len(endings)]
		d := NewCapsuleDecoder(maxPayload, capsuleKnown)
		var log strings.Builder
		feedCuts(d.Buffer(), in, cuts, func() { _ = drainCapsules(&log, d) })
		e.apply(d.Buffer())
		err := drainCapsules(&log, d)
		agreeCapsules(t, d, log.String(), err, in, maxPayload, e)
	})
}
