package tailfin

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// The close race under reordering: what must come of packets whose order of arrival is
// known. The model here is as plain as can be, and knows nothing of ledgers and drains:
// a stream is a row of bytes that have come or not; what had come when the close was
// handled, up to the first gap, is what is delivered.

// A plannedMessage is what a peer has to say on one stream: a message, or bytes.
type plannedMessage struct {
	data   []byte // all of the stream
	head   int    // how much of it is the header section, and what is before
	pieces []piece
	frames []frameAt // behind the header section
	size   int       // of the content
	want   int       // Content-Length, -1 without
	cut    bool      // data ends within a DATA frame

	uni bool  // on a unidirectional stream
	id  int64 // of the stream, where it is not up to the order of messages; 0 is that
}

// A piece is content: n bytes of the stream at an offset.
type piece struct{ at, n int }

// A frameAt is where an HTTP/3 frame is: from its header to its end.
type frameAt struct {
	at, payload, end int
	grease           bool
}

// met tells that the first n bytes of the stream have all that Content-Length says, and no
// part of a frame that matters.
func (m *plannedMessage) met(n int) bool {
	if m.want < 0 || n < m.head || m.content(n) != m.want {
		return false
	}
	for _, f := range m.frames {
		if n > f.at && n < f.end {
			return f.grease && n >= f.payload
		}
	}
	return true
}

// content is how much of it the first n bytes of the stream have.
func (m *plannedMessage) content(n int) int {
	have := 0
	for _, p := range m.pieces {
		have += max(0, min(n-p.at, p.n))
	}
	return have
}

// A layout is how a message is put together.
type layout struct {
	size   int  // of the content
	frames int  // DATA frames
	length bool // there is a Content-Length
	grease bool // frames without meaning, between those and behind
	cut    bool // the last DATA frame claims more than the stream has
}

func randomLayout(rng *rand.Rand, most int) layout {
	size := 0
	if rng.IntN(8) > 0 {
		size = peer.MinNumbered + rng.IntN(most)
	}
	return layout{size: size, frames: 1 + rng.IntN(3), length: rng.IntN(2) == 0, grease: rng.IntN(3) == 0}
}

// numberedBody is a body that no other has; its head is cut off where it is too short.
func numberedBody(id uint64, size int) []byte {
	return peer.Numbered(id, max(size, peer.MinNumbered))[:size]
}

// message puts a message together: a PUT with that path, or an answer to it.
func (l layout) message(id uint64, path string, answer bool) *plannedMessage {
	m := &plannedMessage{size: l.size, want: -1, cut: l.cut && l.size > 0}
	header := http.Header{}
	if l.length {
		m.want = l.size
		header.Set("Content-Length", strconv.Itoa(l.size))
	}
	fields := h3frame.RequestFields(h3frame.RequestHead{
		Method: http.MethodPut, Scheme: "https", Authority: "localhost", Path: path, Header: header,
	})
	if answer {
		fields = h3frame.ResponseFields(h3frame.ResponseHead{Status: http.StatusOK, Header: header})
	}
	m.data = h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields))
	m.head = len(m.data)
	content := numberedBody(id, l.size)
	for i := range l.frames {
		if l.grease {
			m.appendGrease(7)
		}
		part := content[i*l.size/l.frames : (i+1)*l.size/l.frames]
		at := len(m.data)
		m.data = h3frame.AppendData(m.data, part)
		payload := len(m.data) - len(part)
		m.frames = append(m.frames, frameAt{at, payload, len(m.data), false})
		m.pieces = append(m.pieces, piece{payload, len(part)})
	}
	switch {
	case m.cut:
		m.pieces[len(m.pieces)-1].n--
		m.size--
		m.data = m.data[:len(m.data)-1]
	case l.grease:
		m.appendGrease(20)
	}
	return m
}

// appendGrease adds a frame of a type that has no meaning (RFC 9114 §7.2.8).
func (m *plannedMessage) appendGrease(n int) {
	const grease = 0x21
	at := len(m.data)
	m.data = h3frame.AppendVarint(m.data, grease)
	m.data = h3frame.AppendVarint(m.data, uint64(n))
	payload := len(m.data)
	m.data = append(m.data, make([]byte, n)...)
	m.frames = append(m.frames, frameAt{at, payload, len(m.data), true})
}

// Kinds of frames in plans.
type frameKind int

const (
	ofStream frameKind = iota
	ofReset
	ofClose
	ofPing
)

// A plannedFrame is a QUIC frame.
type plannedFrame struct {
	kind     frameKind
	message  int // of a stream or a reset: which one
	from, to int // of its data
	fin      bool
	code     uint64 // of a reset or a close
	quic     bool   // a close by QUIC, not by the application
}

func (f plannedFrame) String() string {
	switch f.kind {
	case ofReset:
		return fmt.Sprintf("RESET %d code %#x", f.message, f.code)
	case ofClose:
		who := "app"
		if f.quic {
			who = "quic"
		}
		return fmt.Sprintf("CLOSE %s %#x", who, f.code)
	case ofPing:
		return "PING"
	}
	fin := ""
	if f.fin {
		fin = " FIN"
	}
	return fmt.Sprintf("%d:%d-%d%s", f.message, f.from, f.to, fin)
}

// A plannedPacket is a packet. Those of one number are the same.
type plannedPacket struct {
	number int
	frames []plannedFrame
}

func (p plannedPacket) String() string {
	var frames []string
	for _, f := range p.frames {
		frames = append(frames, f.String())
	}
	return fmt.Sprintf("#%d[%s]", p.number, strings.Join(frames, ", "))
}

// A plan is a connection's last packets.
type plan struct {
	messages []*plannedMessage
	readers  []readerKind // of each message
	volleys  []plannedVolley
	goAway   int  // the message that is a GOAWAY, covering all requests; 0 is none
	noise    bool // what arrives is not what is sent: over a network
}

// resets tells that the plan has a reset of a message.
func (p *plan) resets(message int) bool {
	for _, v := range p.volleys {
		for _, packet := range v.packets {
			if slices.ContainsFunc(packet.frames, func(f plannedFrame) bool { return f.kind == ofReset && f.message == message }) {
				return true
			}
		}
	}
	return false
}

// A plannedVolley is a peer.Volley to be.
type plannedVolley struct {
	peer.Volley // without packets
	packets     []plannedPacket
}

// String is the plan for a report.
func (p *plan) String() string {
	var b strings.Builder
	for i, m := range p.messages {
		fmt.Fprintf(&b, "message %d: %d bytes, head %d, content %d, Content-Length %d, read %s; ", i, len(m.data), m.head, m.size, m.want, p.readers[i])
	}
	for _, v := range p.volleys {
		fmt.Fprintf(&b, "%s:", v.Way)
		for _, packet := range v.packets {
			fmt.Fprintf(&b, " %s", packet)
		}
		fmt.Fprintf(&b, " (pause %v); ", v.Pause)
	}
	return b.String()
}

// numbers are those of the packets that QUIC handles if all arrives as it is sent:
// each once, up to the close.
func (p *plan) numbers() []int {
	var list []int
	for _, v := range p.volleys {
		for _, packet := range v.packets {
			if slices.Contains(list, packet.number) {
				continue
			}
			list = append(list, packet.number)
			if slices.ContainsFunc(packet.frames, func(f plannedFrame) bool { return f.kind == ofClose }) {
				return list
			}
		}
	}
	return list
}

// encode makes the packets, on the streams that the messages are on. first is the
// number of the plan's first packet.
func (p *plan) encode(first uint32, ids []int64) []peer.Volley {
	var list []peer.Volley
	for _, v := range p.volleys {
		sent := v.Volley
		for _, packet := range v.packets {
			var b []byte
			for _, f := range packet.frames {
				switch f.kind {
				case ofStream:
					m := p.messages[f.message]
					b = peer.AppendStreamFrame(b, ids[f.message], f.from, m.data[f.from:f.to], f.fin)
				case ofReset:
					m := p.messages[f.message]
					b = peer.AppendResetFrame(b, ids[f.message], f.code, uint64(len(m.data)))
				case ofClose:
					b = peer.AppendCloseFrame(b, peer.Close{Code: f.code, Transport: f.quic})
				case ofPing:
					b = peer.AppendPingFrame(b)
				}
			}
			sent.Packets = append(sent.Packets, peer.Packet{Number: first + uint32(packet.number), Frames: b})
		}
		list = append(list, sent)
	}
	return list
}

// A cameIn is what has come of a stream.
type cameIn struct {
	have  []bool
	fin   bool
	size  int // with the FIN
	reset *plannedFrame

	atReset      int // the prefix when the reset came
	wholeAtReset bool
}

func (c *cameIn) add(from, to int, fin bool) {
	if c.reset != nil {
		return
	}
	for len(c.have) < to {
		c.have = append(c.have, false)
	}
	for i := from; i < to; i++ {
		c.have[i] = true
	}
	if fin {
		c.fin, c.size = true, to
	}
}

// prefix is the number of bytes without a gap before them.
func (c *cameIn) prefix() int {
	if i := slices.Index(c.have, false); i >= 0 {
		return i
	}
	return len(c.have)
}

// whole tells that the FIN and all before it have come.
func (c *cameIn) whole() bool { return c.fin && c.prefix() == c.size }

func (c *cameIn) cancel(f plannedFrame) {
	if c.reset == nil {
		c.atReset, c.wholeAtReset = c.prefix(), c.whole()
		c.reset = &f
	}
}

// A fate is what has come of all streams before the close, and the close.
type fate struct {
	streams []cameIn
	end     *plannedFrame // nil without
}

// fateOf is the model. numbers are those of the packets that were handled, in order.
func (p *plan) fateOf(numbers []int) fate {
	frames := make(map[int][]plannedFrame)
	for _, v := range p.volleys {
		for _, packet := range v.packets {
			frames[packet.number] = packet.frames
		}
	}
	f := fate{streams: make([]cameIn, len(p.messages))}
	for _, n := range numbers {
		for _, frame := range frames[n] {
			switch frame.kind {
			case ofStream:
				f.streams[frame.message].add(frame.from, frame.to, frame.fin)
			case ofReset:
				f.streams[frame.message].cancel(frame)
			case ofClose:
				f.end = &frame
				return f
			}
		}
	}
	return f
}
