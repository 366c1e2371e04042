package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A Burst is an HTTP/3 peer whose last words are exactly what is asked for. No
// QUIC stack can be made to put STREAM, FIN and CONNECTION_CLOSE into one
// packet, or a whole upload and its close into one batch. So quic-go makes the
// connection; then it is taken off the wire, and the last packets are sealed
// here, with the connection's own secrets, and sent at once:
//
//	quic-go ── handshake, SETTINGS, requests ──▶ peer
//	   ╳ mute
//	Burst  ── [STREAM][STREAM][STREAM FIN, CONNECTION_CLOSE] ──▶ peer
//
// Nothing is sent again: what is lost on the way stays lost.
type Burst struct {
	tap    *tap
	tr     *quic.Transport
	conn   *quic.Conn
	keyLog *keyLog
	label  string // of the secret that protects what this end sends
	watch  *connEvents
}

// A Message is the whole of a stream.
type Message struct {
	StreamID int64
	Data     []byte
}

// A Close is how a burst ends.
type Close struct {
	// Code is the error code.
	Code uint64
	// Transport tells a transport error from one of the application
	// (RFC 9000 §19.19).
	Transport bool
	// Apart puts CONNECTION_CLOSE into a packet of its own.
	Apart bool
	// Delay is how long after the FIN the close goes out, in a packet of its own
	// then. It is spun away, since a timer cannot wait for 10 µs.
	Delay time.Duration
}

// alpn is the ALPN token of HTTP/3.
const alpn = "h3"

// DialBurst connects to a server and sends SETTINGS. It trusts any certificate.
func DialBurst(ctx context.Context, addr string) (*Burst, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	b, err := newBurst(to.IP, "CLIENT_TRAFFIC_SECRET_0")
	if err != nil {
		return nil, err
	}
	b.conn, err = b.tr.Dial(ctx, to, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a peer for loopback tests
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		CurvePreferences:   []tls.CurveID{tls.X25519}, // the cheap one: a handshake is most of what a burst costs
		KeyLogWriter:       b.keyLog,
	}, &quic.Config{Tracer: b.trace})
	if err == nil {
		err = b.settings()
	}
	if err == nil {
		// Before, quic-go may still have to send its Finished.
		select {
		case <-b.watch.confirmed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// A BurstListener is a server that answers by a Burst.
type BurstListener struct {
	b  *Burst
	ln *quic.Listener
}

// serverSecret is the key log's name for what protects a server's packets.
const serverSecret = "SERVER_TRAFFIC_SECRET_0"

// ListenBurst listens on loopback for one connection.
func ListenBurst(cert tls.Certificate) (*BurstListener, error) {
	b, err := newBurst(loopback, serverSecret)
	if err != nil {
		return nil, err
	}
	ln, err := b.tr.Listen(&tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		KeyLogWriter: b.keyLog,
	}, &quic.Config{MaxIncomingStreams: maxBurstStreams, Tracer: b.trace})
	if err != nil {
		b.Close()
		return nil, err
	}
	return &BurstListener{b, ln}, nil
}

// maxBurstStreams is how many requests a client may have open.
const maxBurstStreams = 1000

// Addr is the address that the client dials.
func (l *BurstListener) Addr() string { return l.b.tap.LocalAddr().String() }

// Close ends the listener and its Burst.
func (l *BurstListener) Close() {
	_ = l.ln.Close()
	l.b.Close()
}

// Accept takes the connection, sends SETTINGS, reads n requests to their ends,
// and returns the streams to answer on. The Burst ends with the listener.
func (l *BurstListener) Accept(ctx context.Context, n int) (*Burst, []int64, error) {
	conn, err := l.ln.Accept(ctx)
	if err != nil {
		return nil, nil, err
	}
	l.b.conn = conn
	if err := l.b.settings(); err != nil {
		return nil, nil, err
	}
	ids := make([]int64, 0, n)
	for range n {
		str, err := conn.AcceptStream(ctx)
		if err != nil {
			return nil, nil, err
		}
		if _, _, err := readRequest(str); err != nil {
			return nil, nil, err
		}
		ids = append(ids, int64(str.StreamID()))
	}
	return l.b, ids, nil
}

func newBurst(toward net.IP, label string) (*Burst, error) {
	tap, err := listenTap(toward)
	if err != nil {
		return nil, err
	}
	return &Burst{tap: tap, tr: &quic.Transport{Conn: tap}, keyLog: &keyLog{}, label: label,
		watch: &connEvents{confirmed: make(chan struct{})}}, nil
}

// trace is what a quic.Config takes as Tracer.
func (b *Burst) trace(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return b.watch }

// settings opens the control stream, the first unidirectional stream.
func (b *Burst) settings() error {
	str, err := b.conn.OpenUniStream()
	if err != nil {
		return err
	}
	msg := h3frame.AppendStreamType(nil, h3frame.StreamControl)
	_, err = str.Write(h3frame.AppendSettings(msg, h3frame.Settings{}))
	return err
}

// Close ends the sender. It sends nothing if there was a Send.
func (b *Burst) Close() {
	if b.conn != nil {
		_ = b.conn.CloseWithError(quic.ApplicationErrorCode(h3frame.ErrCodeNoError), "")
	}
	_ = b.tr.Close()
	_ = b.tap.Close()
}

// Send sends the messages with their FINs, and the close right behind. It is
// the last that the peer hears.
func (b *Burst) Send(messages []Message, end Close) error {
	l, err := b.lastWords()
	if err != nil {
		return err
	}
	return l.send(messages, end)
}

// lastWords takes the connection off the wire.
func (b *Burst) lastWords() (*lastWords, error) {
	secret, err := b.keyLog.secret(b.label)
	if err != nil {
		return nil, err
	}
	dcid, to := b.tap.mute()
	keys, err := newPacketKeys(b.conn.ConnectionState().TLS.CipherSuite, secret, b.watch.phase.Load())
	if err != nil {
		return nil, err
	}
	return &lastWords{b.tap.udp, to, dcid, keys}, nil
}

// lastWords is what it takes to go on in quic-go's place, on a connection that is off
// the wire.
type lastWords struct {
	udp  *net.UDPConn
	to   *net.UDPAddr
	dcid []byte
	keys *packetKeys
}

// send seals messages and close, and sends them.
func (l *lastWords) send(messages []Message, end Close) error {
	payloads := packFrames(messages, end, burstPacket-overhead(l.dcid))
	packets := make([][]byte, len(payloads))
	for i, p := range payloads {
		packets[i] = l.keys.seal(l.dcid, FirstNumber+uint32(i), p)
	}
	ahead := len(packets)
	if end.Delay > 0 {
		ahead--
	}
	for i := 0; i < len(packets); {
		if i == ahead {
			spin(end.Delay)
		}
		stop := len(packets)
		if i < ahead {
			stop = ahead
		}
		n := min(stop-i, burstTrain)
		if err := writeTrain(l.udp, l.to, burstPacket, packets[i:i+n]); err != nil {
			return fmt.Errorf("send %d packets: %w", n, err)
		}
		i += n
	}
	return nil
}

const (
	// burstPacket is the size of all packets but the last: what any path carries.
	burstPacket = 1200
	// burstTrain is how many packets go out by one system call; with 1,200
	// bytes each they fit into the 64 KiB of one.
	burstTrain = 50
	// FirstNumber is the first packet number. quic-go has used fewer.
	FirstNumber = 1 << 16
)

// BurstOfOne reports whether the messages and the close fit into one packet.
func BurstOfOne(messages []Message, end Close) bool {
	return len(packFrames(messages, end, MaxFrames)) == 1
}

// Frame types and their bits (RFC 9000 §19).
const (
	frameStream         = 0x08
	streamHasFIN        = 0x01
	streamHasLength     = 0x02
	streamHasOffset     = 0x04
	frameCloseTransport = 0x1c
	frameCloseApp       = 0x1d

	// maxStreamHead bounds what a STREAM frame has before its data: three
	// varints of up to 4 bytes and its type.
	maxStreamHead = 13
	// closeLen bounds a CONNECTION_CLOSE without a reason.
	closeLen = 11
)

// packFrames returns the payloads of packets: full ones of size bytes, padded,
// and a last one.
func packFrames(messages []Message, end Close, size int) [][]byte {
	var payloads [][]byte
	cur := make([]byte, 0, size)
	next := func() {
		payloads = append(payloads, append(cur, make([]byte, size-len(cur))...)) // PADDING is zero
		cur = make([]byte, 0, size)
	}
	for _, m := range messages {
		for offset, fin := 0, false; !fin; {
			if len(cur)+maxStreamHead >= size {
				next()
			}
			n := min(len(m.Data)-offset, size-len(cur)-maxStreamHead)
			fin = offset+n == len(m.Data)
			cur = AppendStreamFrame(cur, m.StreamID, offset, m.Data[offset:offset+n], fin)
			offset += n
		}
	}
	if end.Apart || end.Delay > 0 || len(cur)+closeLen > size {
		next()
	}
	return append(payloads, AppendCloseFrame(cur, end))
}

// AppendStreamFrame appends a STREAM frame (RFC 9000 §19.8).
func AppendStreamFrame(b []byte, id int64, offset int, data []byte, fin bool) []byte {
	kind := byte(frameStream | streamHasLength | streamHasOffset)
	if fin {
		kind |= streamHasFIN
	}
	b = append(b, kind)
	b = h3frame.AppendVarint(b, uint64(id))
	b = h3frame.AppendVarint(b, uint64(offset))
	b = h3frame.AppendVarint(b, uint64(len(data)))
	return append(b, data...)
}

// AppendCloseFrame appends a CONNECTION_CLOSE frame (RFC 9000 §19.19) with the code of end.
func AppendCloseFrame(b []byte, end Close) []byte {
	if end.Transport {
		b = append(b, frameCloseTransport)
		b = h3frame.AppendVarint(b, end.Code)
		b = append(b, 0) // of no frame
	} else {
		b = append(b, frameCloseApp)
		b = h3frame.AppendVarint(b, end.Code)
	}
	return append(b, 0) // no reason
}

// RequestMessage is a PUT of body on a stream.
func RequestMessage(streamID int64, path string, body []byte) Message {
	fields := h3frame.RequestFields(h3frame.RequestHead{
		Method: http.MethodPut, Scheme: "https", Authority: "localhost", Path: path, Header: http.Header{},
	})
	return message(streamID, fields, body)
}

// ResponseMessage is an answer with status 200 on a stream.
func ResponseMessage(streamID int64, body []byte) Message {
	return message(streamID, h3frame.ResponseFields(h3frame.ResponseHead{Status: http.StatusOK, Header: http.Header{}}), body)
}

func message(streamID int64, fields []h3frame.Field, body []byte) Message {
	data := h3frame.AppendHeaders(nil, h3frame.AppendFieldSection(nil, fields))
	return Message{streamID, h3frame.AppendData(data, body)}
}

// greaseStream is a stream type that has no meaning and must be read over
// (RFC 9114 §6.2.3).
const greaseStream = 0x21

// UniMessage is a unidirectional stream, the second that the sender opens, of a
// type without meaning.
func UniMessage(fromClient bool, n int) Message {
	id := int64(7)
	if fromClient {
		id = 6
	}
	return Message{id, append(h3frame.AppendVarint(nil, greaseStream), Pattern(n)...)}
}

// connEvents is what quic-go tells of a connection that its API does not.
type connEvents struct {
	confirmed chan struct{} // closed when the handshake is confirmed (RFC 9001 §4.1.2)
	once      sync.Once
	phase     atomic.Uint64 // how often keys were updated; quic-go does it after 100 packets
}

func (e *connEvents) AddProducer() qlogwriter.Recorder { return e }
func (e *connEvents) Close() error                     { return nil }

func (e *connEvents) RecordEvent(ev qlogwriter.Event) {
	switch ev := ev.(type) {
	case qlog.KeyUpdated:
		if ev.Trigger != qlog.KeyUpdateTLS {
			e.phase.Store(uint64(ev.KeyPhase))
		}
	case qlog.PacketReceived:
		for _, f := range ev.Frames {
			if _, ok := f.Frame.(*qlog.HandshakeDoneFrame); ok {
				e.once.Do(func() { close(e.confirmed) })
			}
		}
	}
}

// A keyLog is the secrets of one connection, in NSS key log format.
type keyLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (k *keyLog) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.b.Write(p)
}

func (k *keyLog) secret(label string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for line := range strings.Lines(k.b.String()) {
		fields := strings.Fields(line) // label, client random, secret
		if len(fields) == 3 && fields[0] == label {
			return hex.DecodeString(fields[2])
		}
	}
	return nil, errors.New("the handshake has left no " + label)
}
