package tailfin

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/h3frame"
)

// arrangements lists every way in which any of n packets can arrive: every order of every
// subset of them, and each of these with one of the packets twice, at every place behind
// its first.
func arrangements(n int) [][]int {
	var list [][]int
	var extend func(order []int)
	extend = func(order []int) {
		list = append(list, order)
		for i := range n {
			if !slices.Contains(order, i) {
				extend(append(slices.Clone(order), i))
			}
		}
	}
	extend(nil)
	for _, order := range list {
		for i, packet := range order {
			for at := i + 1; at <= len(order); at++ {
				list = append(list, slices.Insert(slices.Clone(order), at, packet))
			}
		}
	}
	return list
}

// Numbers of packets within a plan: the first ones from 0 on, those that are sent again,
// and the closes that end every plan, lest one whose close is lost never end.
const (
	againNumber = 700
	lastNumber  = 1000
)

// lastCode is the code of the closes that end every plan.
const lastCode = uint64(h3frame.ErrCodeStreamCreation)

func randomClose(rng *rand.Rand) plannedFrame {
	return []plannedFrame{
		{kind: ofClose, code: uint64(h3frame.ErrCodeNoError)},
		{kind: ofClose, code: uint64(h3frame.ErrCodeInternal)},
		{kind: ofClose, code: uint64(h3frame.ErrCodeRequestCancelled)},
		{kind: ofClose, code: 0x0a, quic: true}, // PROTOCOL_VIOLATION
		{kind: ofClose, quic: true},             // NO_ERROR
	}[rng.IntN(5)]
}

// arrange makes the packets arrive in an order. One that is there for the second time is
// the same packet, or one that has the same frames.
func (p *plan) arrange(rng *rand.Rand, packets []plannedPacket, order []int) {
	var list []plannedPacket
	for at, i := range order {
		packet := packets[i]
		if slices.Contains(order[:at], i) && rng.IntN(2) == 0 {
			packet.number = againNumber
		}
		list = append(list, packet)
	}
	p.volley(rng, list)
}

// volley has the packets go out some way or other, and the last close behind them.
func (p *plan) volley(rng *rand.Rand, packets []plannedPacket) {
	add := func(packets []plannedPacket, way peer.Way, pause time.Duration) {
		if len(packets) > 0 {
			p.volleys = append(p.volleys, plannedVolley{peer.Volley{Way: way, Pause: pause}, packets})
		}
	}
	switch rng.IntN(4) {
	case 0:
		add(packets, peer.InTrain, 0)
	case 1:
		add(packets, peer.InBatch, 0)
	case 2:
		at := rng.IntN(len(packets) + 1)
		add(packets[:at], peer.Way(rng.IntN(2)), time.Duration(rng.IntN(2))*200*time.Microsecond)
		add(packets[at:], peer.Way(rng.IntN(2)), 0)
	default:
		for _, packet := range packets {
			pause := time.Duration(0)
			if len(packets) < 10 {
				pause = time.Duration(rng.IntN(3)) * 100 * time.Microsecond
			}
			add([]plannedPacket{packet}, peer.OneByOne, pause)
		}
	}
	last, pause := 1, time.Duration(0)
	if p.noise {
		last, pause = 8, 10*time.Millisecond
	}
	for i := range last {
		add([]plannedPacket{{lastNumber + i, []plannedFrame{{kind: ofClose, code: lastCode}}}}, peer.OneByOne, pause)
	}
}

// An orderShape is a few packets, of which every arrangement is tried.
type orderShape struct {
	name    string
	n       int // packets
	packets func(m *plannedMessage, end plannedFrame) []plannedPacket
}

// cutUp makes STREAM frames of the first message, cut at the offsets; the last has the FIN.
func cutUp(m *plannedMessage, cuts ...int) []plannedFrame {
	var list []plannedFrame
	from := 0
	for _, to := range append(cuts, len(m.data)) {
		list = append(list, plannedFrame{from: from, to: to})
		from = to
	}
	list[len(list)-1].fin = true
	return list
}

func packetsOf(frames ...[]plannedFrame) []plannedPacket {
	var list []plannedPacket
	for i, f := range frames {
		list = append(list, plannedPacket{i, f})
	}
	return list
}

// The header section is cut in most of them, and so is a DATA frame or its header.
var orderShapes = []orderShape{
	{"behind the FIN", 5, func(m *plannedMessage, end plannedFrame) []plannedPacket {
		f := cutUp(m, m.head/2, m.head+1, len(m.data)) // the FIN is a frame of its own
		return packetsOf(f[:1], f[1:2], f[2:3], f[3:], []plannedFrame{end})
	}},
	{"in the packet of the FIN", 4, func(m *plannedMessage, end plannedFrame) []plannedPacket {
		f := cutUp(m, m.head/2, m.head, (m.head+len(m.data))/2)
		return packetsOf(f[:1], f[1:2], f[2:3], []plannedFrame{f[3], end})
	}},
	{"between two frames of a packet", 4, func(m *plannedMessage, end plannedFrame) []plannedPacket {
		f := cutUp(m, m.head/2, m.head+1, m.head+4, len(m.data)-1)
		return packetsOf(f[:1], []plannedFrame{f[1], end, f[2]}, f[3:4], f[4:])
	}},
	{"behind a reset", 4, func(m *plannedMessage, end plannedFrame) []plannedPacket {
		f := cutUp(m, m.head+1)
		reset := plannedFrame{kind: ofReset, code: uint64(h3frame.ErrCodeRequestRejected)}
		return packetsOf(f[:1], f[1:], []plannedFrame{reset}, []plannedFrame{end})
	}},
}

// contentID is the number of a message's content.
func contentID(id uint64, message int) uint64 { return id<<3 | uint64(message) }

// planOf is a plan of the shape.
func (s orderShape) planOf(rng *rand.Rand, id uint64, order []int, isClient bool) *plan {
	l := randomLayout(rng, 200)
	l.size = max(l.size, 12)
	l.cut = rng.IntN(12) == 0
	m := l.message(contentID(id, 0), orderPath(id, 0), isClient)
	p := &plan{messages: []*plannedMessage{m}, readers: []readerKind{readerKind(rng.IntN(int(never)))}}
	p.arrange(rng, s.packets(m, randomClose(rng)), order)
	return p
}

// goAwayPlan is a GOAWAY that covers the request, byte for byte, and the close; nothing
// comes of the answer.
func goAwayPlan(rng *rand.Rand, id uint64, order []int) *plan {
	// With all that is on the control stream, as quic-go may not have sent it any more.
	control := h3frame.AppendSettings(h3frame.AppendStreamType(nil, h3frame.StreamControl), h3frame.Settings{})
	settings := len(control)
	control = h3frame.AppendGoAway(control, 0)
	p := &plan{
		messages: []*plannedMessage{
			layout{size: 100, frames: 1}.message(contentID(id, 0), orderPath(id, 0), true),
			{data: control, uni: true, id: 3},
		},
		readers: []readerKind{eager, eager},
		goAway:  1,
	}
	frames := [][]plannedFrame{
		{{message: 1, to: settings + 1}},
		{{message: 1, from: settings + 1, to: settings + 2}},
		{{message: 1, from: settings + 2, to: len(control)}},
		{randomClose(rng)},
	}
	p.arrange(rng, packetsOf(frames...), order)
	return p
}

const (
	// mostPackets is how many packets a plan has at most: quic-go (v0.65.0) drops what
	// comes while 256 wait for the run loop.
	mostPackets = 160
	// mostInFrame is how many bytes of a stream a frame has at most.
	mostInFrame = peer.MaxFrames - frameHead
	frameHead   = 16
)

// randomPlan has several messages in many packets, of which some are lost, some come
// twice, and the close overtakes some. bare is for streams without HTTP/3.
func randomPlan(rng *rand.Rand, id uint64, isClient, bare, noise bool) *plan {
	p := &plan{noise: noise}
	n := 1 + rng.IntN(4)
	most := []int{200, 3000, 100_000 / (1 + n)}[rng.IntN(3)]
	for i := range n {
		l := randomLayout(rng, most)
		l.cut = n == 1 && rng.IntN(6) == 0
		p.messages = append(p.messages, l.message(contentID(id, i), orderPath(id, i), isClient))
		p.messages[i].uni = bare && rng.IntN(2) == 0
		p.readers = append(p.readers, readerKind(rng.IntN(readerKinds)))
	}
	if !bare && rng.IntN(3) == 0 {
		const greaseStream = 0x21 // a type without meaning (RFC 9114 §6.2.3)
		p.messages = append(p.messages, &plannedMessage{uni: true, data: append(h3frame.AppendVarint(nil, greaseStream), peer.Pattern(rng.IntN(3000))...)})
		p.readers = append(p.readers, never)
	}
	packets := p.randomPackets(rng)
	p.endRandomly(rng, packets)
	return p
}

// randomFrames cuts a message into frames.
func (p *plan) randomFrames(rng *rand.Rand, message int) []plannedFrame {
	m := p.messages[message]
	var list []plannedFrame
	small := []int{40, 400, mostInFrame}[rng.IntN(3)]
	for from := 0; from < len(m.data); {
		most := small
		if len(m.data)-from > 6000 {
			most = mostInFrame
		}
		to := min(len(m.data), from+most/2+rng.IntN(most/2)+1)
		list = append(list, plannedFrame{message: message, from: from, to: to})
		from = to
	}
	switch rng.IntN(8) {
	case 0: // no FIN at all
	case 1, 2:
		list = append(list, plannedFrame{message: message, from: len(m.data), to: len(m.data), fin: true})
	default:
		list[len(list)-1].fin = true
	}
	return list
}

// randomPackets puts the frames of all messages into packets, in the order in which a
// peer would send them.
func (p *plan) randomPackets(rng *rand.Rand) []plannedPacket {
	var streams [][]plannedFrame
	for i := range p.messages {
		streams = append(streams, p.randomFrames(rng, i))
	}
	var packets []plannedPacket
	room := 0
	for len(streams) > 0 {
		i := rng.IntN(len(streams))
		f := streams[i][0]
		if streams[i] = streams[i][1:]; len(streams[i]) == 0 {
			streams = slices.Delete(streams, i, i+1)
		}
		need := f.to - f.from + frameHead
		if need > room || rng.IntN(4) == 0 && len(packets) < mostPackets/2 {
			packets = append(packets, plannedPacket{number: len(packets)})
			room = peer.MaxFrames
			if rng.IntN(8) == 0 {
				packets[len(packets)-1].frames = []plannedFrame{{kind: ofPing}}
				room--
			}
		}
		last := &packets[len(packets)-1]
		last.frames = append(last.frames, f)
		room -= need
	}
	return packets
}

// endRandomly adds a reset, perhaps, and the close, and has the packets arrive somehow.
func (p *plan) endRandomly(rng *rand.Rand, packets []plannedPacket) {
	insert := func(f plannedFrame, at int) {
		if rng.IntN(2) == 0 {
			packets = slices.Insert(packets, at, plannedPacket{number: len(packets), frames: []plannedFrame{f}})
			return
		}
		at = min(at, len(packets)-1)
		frames := packets[at].frames
		room := peer.MaxFrames
		for _, f := range frames {
			room -= f.to - f.from + frameHead
		}
		if room < frameHead {
			packets = slices.Insert(packets, at, plannedPacket{number: len(packets), frames: []plannedFrame{f}})
			return
		}
		packets[at].frames = slices.Insert(slices.Clone(frames), rng.IntN(len(frames)+1), f)
	}
	if i := rng.IntN(len(p.messages)); rng.IntN(5) == 0 && !p.messages[i].cut {
		code := []h3frame.ErrorCode{h3frame.ErrCodeRequestCancelled, h3frame.ErrCodeRequestRejected}[rng.IntN(2)]
		insert(plannedFrame{kind: ofReset, message: i, code: uint64(code)}, rng.IntN(len(packets)+1))
	}
	at := len(packets)
	if rng.IntN(4) == 0 {
		at = rng.IntN(len(packets) + 1)
	}
	insert(randomClose(rng), at)
	p.volley(rng, p.arriveRandomly(rng, packets))
}

// arriveRandomly loses, doubles and moves packets.
func (p *plan) arriveRandomly(rng *rand.Rand, packets []plannedPacket) []plannedPacket {
	if lose := []float64{0, 0, 0.03, 0.3}[rng.IntN(4)]; lose > 0 {
		packets = slices.DeleteFunc(packets, func(plannedPacket) bool { return rng.Float64() < lose })
	}
	for len(packets) > mostPackets {
		i := rng.IntN(len(packets))
		packets = slices.Delete(packets, i, i+1)
	}
	if rng.IntN(3) == 0 {
		again := againNumber
		for range 1 + len(packets)/8 {
			if len(packets) == 0 {
				break
			}
			i := rng.IntN(len(packets))
			twin := packets[i]
			if rng.IntN(2) == 0 {
				twin = plannedPacket{again, p.sendAgain(rng, twin.frames)}
				again++
			}
			packets = slices.Insert(packets, i+1+rng.IntN(len(packets)-i), twin)
		}
	}
	switch rng.IntN(4) {
	case 0:
	case 1, 2: // not far from where they were
		for i := range packets {
			j := min(len(packets)-1, i+rng.IntN(6))
			packets[i], packets[j] = packets[j], packets[i]
		}
	default:
		rng.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	}
	return packets
}

// sendAgain returns the frames of a packet as a peer sends them again: with other bounds,
// where that fits.
func (p *plan) sendAgain(rng *rand.Rand, frames []plannedFrame) []plannedFrame {
	if len(frames) != 1 || frames[0].kind != ofStream {
		return frames
	}
	f := frames[0]
	size := len(p.messages[f.message].data)
	f.from = max(0, f.from-rng.IntN(100))
	f.to = min(size, f.to+rng.IntN(100), f.from+mostInFrame)
	f.fin = f.fin && f.to == size
	return []plannedFrame{f}
}
