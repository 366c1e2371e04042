package closerace

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	Addr netip.Addr `json:"addr"` // to listen on
}

// The orders to a sender process.
const (
	opUpload = "upload" // answered by a sent
	opListen = "listen" // answered by a listening
	opStop   = "stop"   // answered by a sent
)

// sent is what a sender says of a turn: how many messages have left with their closes.
// A foreign server does not know and says unknown.
type sent struct {
	Sent  int    `json:"sent"`
	Error string `json:"error"` // why one was not, the first reason
}

// unknown is for senders that do not tell what they have sent.
const unknown = -1

// senderGC is the sender's GOGC. Receivers have the default.
const senderGC = 400

// send is the sender process.
func send(c senderConfig, newCert func() (tls.Certificate, error), in io.Reader, out io.Writer) error {
	cert, err := newCert()
	if err != nil {
		return err
	}
	// What the sender collects is time that it does not send in; it is no contestant.
	debug.SetGCPercent(senderGC)
	var stop func() sent
	lines, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := lines.Decode(&o); err != nil {
			return ignoreEOF(err)
		}
		switch o.Op {
		case opUpload:
			ctx, cancel := context.WithTimeout(context.Background(), turnTimeout)
			err = answers.Encode(uploadAll(ctx, o))
			cancel()
		case opListen:
			var addr string
			if addr, stop, err = listenSender(c, cert, o.Turn); err != nil {
				err = answers.Encode(listening{Error: err.Error()})
			} else {
				err = answers.Encode(listening{Addr: addr})
			}
		case opStop:
			err = answers.Encode(stop())
		default:
			err = fmt.Errorf("no order %q", o.Op)
		}
		if err != nil {
			return err
		}
	}
}

// uploadAll sends the messages of a turn, each on a connection of its own.
func uploadAll(ctx context.Context, o order) (res sent) {
	upload := burstUpload
	switch o.Turn.Sender {
	case SenderXNet:
		upload = func(ctx context.Context, addr string, id uint64, t turn) error {
			return peer.PutXNet(ctx, addr, peer.NumberedPath(id, t.Size), peer.Numbered(id, t.Size), t.Delay)
		}
	case SenderTailfin:
		tr := &tailfin.Transport{TLSClientConfig: clientTLS(), Logger: quiet()}
		defer func() { _ = tr.Close() }()
		upload = func(ctx context.Context, addr string, id uint64, t turn) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+addr+peer.NumberedPath(id, t.Size), bytes.NewReader(peer.Numbered(id, t.Size)))
			if err != nil {
				return err
			}
			return tr.SendAndClose(req)
		}
	}
	var mu sync.Mutex
	each(o.Turn, func(id uint64) {
		ctx, cancel := context.WithTimeout(ctx, messageTimeout)
		defer cancel()
		err := upload(ctx, o.Addr, id, o.Turn)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			res.Sent++
		case res.Error == "":
			res.Error = err.Error()
		}
	})
	return res
}

func burstUpload(ctx context.Context, addr string, id uint64, t turn) error {
	b, err := peer.DialBurst(ctx, addr)
	if err != nil {
		return err
	}
	defer b.Close()
	return b.Send([]peer.Message{peer.RequestMessage(0, peer.NumberedPath(id, t.Size), peer.Numbered(id, t.Size))}, closeOf(t))
}

// closeOf is the close of a burst: H3_NO_ERROR.
func closeOf(t turn) peer.Close { return peer.Close{Code: 0x100, Delay: t.Delay} }

// listenSender starts a server that answers and closes, and returns how to stop it.
func listenSender(c senderConfig, cert tls.Certificate, t turn) (addr string, stop func() sent, err error) {
	at := netip.AddrPortFrom(c.Addr, 0).String()
	switch t.Sender {
	case SenderXNet:
		s, err := peer.ListenXNet(at, cert, peer.XNetOptions{CloseAfterResponse: true, Delay: t.Delay})
		if err != nil {
			return "", nil, err
		}
		return s.Addr(), func() sent { _ = s.Close(); return sent{Sent: unknown} }, nil
	case SenderQUICGo:
		s, err := peer.ListenClosing(cert, peer.ClosingOptions{Addr: at, Delay: t.Delay})
		if err != nil {
			return "", nil, err
		}
		return s.Addr(), func() sent { _ = s.Close(); return sent{Sent: unknown} }, nil
	}
	s, err := peer.ListenBursts(at, cert, closeOf(t))
	if err != nil {
		return "", nil, err
	}
	return s.Addr(), func() sent {
		n, failure := s.Close()
		res := sent{Sent: n}
		if failure != nil {
			res.Error = failure.Error()
		}
		return res
	}, nil
}
