package decode

import (
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// chunk is how much of a stream a packet brings: what is left of the 1252 bytes that
// quic-go sends first, behind the headers of packet and frame and the authentication.
const chunk = 1220

// A unit is a frame.
type unit struct {
	typ     h3frame.FrameType
	payload []byte          // for HEADERS the fields in QPACK
	fields  []h3frame.Field // of HEADERS
}

// A stream is the whole of one, of a request or a response.
type stream struct {
	role   h3frame.Role
	units  []unit
	wire   []byte
	chunks [][]byte // of wire
}

// A transcript is what is to be decoded. The same seed makes the same.
type transcript struct {
	streams []stream
	h3      []byte // all streams, one after the other
	h2      []byte // the same frames as HTTP/2 has them, on one connection
	feeds   feeds  // of the readers that are fed
	frames  int
}

// The sizes of transcripts: long enough that what a stream costs once does not show in
// its frames, but for headers, and short enough that they stay in a processor's cache.
const (
	manyHeads   = 64 // requests, and as many responses
	manyFrames  = 200
	largeFrames = 32
	smallFrames = 1000
	smallMost   = 60 // bytes of a small frame
	mixedMost   = 16 << 10
	greaseEvery = 40
)

// newTranscript makes the transcript of a name.
func newTranscript(name string, seed uint64) (*transcript, error) {
	d := newDrawer(seed, name)
	t := &transcript{}
	switch name {
	case Headers, RequestFields, ResponseFields:
		for range manyHeads {
			if name != ResponseFields {
				t.add(h3frame.RequestStream, headUnit(h3frame.RequestFields(d.request())))
			}
			if name != RequestFields {
				t.add(h3frame.ResponseStream, headUnit(h3frame.ResponseFields(d.response())))
			}
		}
	case Data1200:
		t.add(h3frame.RequestStream, d.upload(manyFrames, func() int { return 1200 })...)
	case Data8K:
		t.add(h3frame.RequestStream, d.upload(largeFrames, func() int { return 8 << 10 })...)
	case Small:
		t.add(h3frame.RequestStream, d.upload(smallFrames, func() int { return 1 + d.IntN(smallMost) })...)
	case Mixed:
		t.add(h3frame.ResponseStream, d.mixed()...)
	default:
		return nil, fmt.Errorf("no transcript %q", name)
	}
	var err error
	t.h2, err = appendHTTP2(t.streams)
	return t, err
}

// add adds a stream of these frames.
func (t *transcript) add(role h3frame.Role, units ...unit) {
	s := stream{role: role, units: units}
	for _, u := range units {
		s.wire = append(h3frame.AppendFrameHeader(s.wire, u.typ, uint64(len(u.payload))), u.payload...)
	}
	for rest := s.wire; len(rest) > 0; {
		n := min(chunk, len(rest))
		s.chunks, rest = append(s.chunks, rest[:n:n]), rest[n:]
	}
	t.streams, t.h3, t.frames = append(t.streams, s), append(t.h3, s.wire...), t.frames+len(units)
}

func headUnit(fields []h3frame.Field) unit {
	return unit{typ: h3frame.FrameHeaders, payload: h3frame.AppendFieldSection(nil, fields), fields: fields}
}

// upload is a request with so many DATA frames, each of a size.
func (d drawer) upload(frames int, size func() int) []unit {
	units, total := make([]unit, 1, frames+1), 0
	for range frames {
		units = append(units, unit{typ: h3frame.FrameData, payload: d.bytes(size())})
		total += len(units[len(units)-1].payload)
	}
	units[0] = headUnit(h3frame.RequestFields(h3frame.RequestHead{
		Method: http.MethodPut, Scheme: "https", Authority: "in.example.org:4433", Path: "/device-17/" + d.hex(6),
		Header: header("Content-Type", "application/octet-stream", "User-Agent", "sensor/2.4.1", "Content-Length", strconv.Itoa(total)),
	}))
	return units
}

// mixed is a long response: as many small frames as large ones, on a scale of powers.
func (d drawer) mixed() []unit {
	head := d.response()
	head.Status = http.StatusOK
	units := []unit{headUnit(h3frame.ResponseFields(head))}
	for i := range manyFrames {
		if i%greaseEvery == greaseEvery-1 {
			units = append(units, unit{typ: h3frame.FrameType(h3frame.Grease(d.Uint64N(1 << 30))), payload: d.bytes(d.IntN(20))})
		}
		size := int(math.Pow(mixedMost, d.Float64()))
		units = append(units, unit{typ: h3frame.FrameData, payload: d.bytes(size)})
	}
	return append(units, headUnit(h3frame.TrailerFields(header("Digest", "sha-256="+d.base64(32), "Server-Timing", "total;dur=12.5"))))
}
