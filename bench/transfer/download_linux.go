package transfer

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/bench/servers"
)

// getterConfig is what a process that downloads is told.
type getterConfig struct {
	Receiver string `json:"receiver"` // of package servers: the client of the same kind
	URL      string `json:"url"`      // without the number of bytes, if Bytes are to be added
	Append   bool   `json:"append"`   // the number of bytes to URL
	Bytes    int64  `json:"bytes"`    // of each body
	Flows    int    `json:"flows"`
}

// newGetter makes the client that is the receiver of downloads.
func newGetter(receiver string) http.RoundTripper {
	if receiver == servers.Stock {
		return newClient()
	}
	return &tailfin.Transport{
		DisableCompression: true, DisableDrain: receiver == servers.DrainOff, Logger: slog.New(slog.DiscardHandler),
		TLSClientConfig: clientTLS(), QUICConfig: clientQUIC(), DialTimeout: servers.HandshakeTimeout,
	}
}

// runGetter is the role of a process that downloads. It answers as a receiver.
func runGetter(ctx context.Context, c getterConfig, in io.Reader, out io.Writer) error {
	clients := make([]http.RoundTripper, c.Flows)
	for i := range clients {
		clients[i] = newGetter(c.Receiver)
	}
	url := func(bytes int64) string {
		if c.Append {
			return c.URL + strconv.FormatInt(bytes, 10)
		}
		return c.URL
	}
	all := func(atATime int, bytes int64) received {
		began, used := time.Now(), proc.Used()
		sizes := make([]int64, len(clients))
		err := each(len(clients), atATime, func(i int) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url(bytes), nil)
			if err != nil {
				return err
			}
			sizes[i], err = roundTrip(clients[i], req)
			return err
		})
		now := proc.Used()
		r := received{Seconds: time.Since(began).Seconds(), CPU: now.CPU - used.CPU, Allocs: now.Allocs - used.Allocs, Error: text(err)}
		for _, n := range sizes {
			r.Bytes += n
			r.Whole++
		}
		return r
	}
	return answer(in, out, func(line string) (any, bool) {
		switch line {
		case askWarm:
			return all(maxDials, warmEach(c.Flows, c.Bytes)), true
		case askRun:
			return all(c.Flows, c.Bytes), true
		}
		return received{}, false
	})
}

// download is a turn in which a server sends.
func (t *turn) download() (res result, err error) {
	from, err := t.serve()
	if err != nil {
		return res, err
	}
	conf := getterConfig{Receiver: t.receiver, URL: from.url(), Append: from.sized(), Bytes: t.each(t.flows), Flows: t.flows}
	p, err := t.start(roleGetter, conf, t.at.receiver)
	if err != nil {
		return res, err
	}
	if _, err := askReceived(p, askWarm); err != nil {
		return res, fmt.Errorf("warm up: %w", err)
	}
	if err := from.begin(); err != nil {
		return res, err
	}
	if res.received, err = askReceived(p, askRun); err != nil {
		return res, fmt.Errorf("receiver: %w", err)
	}
	if res.sender, err = from.sent(); err != nil {
		return res, err
	}
	res.sender.Bytes, res.sender.Bodies = conf.Bytes*int64(t.flows), t.flows
	return res, t.account(res)
}

// A source is the sender of a download.
type source interface {
	url() string
	sized() bool // the number of bytes comes after the URL
	begin() error
	sent() (sentReport, error)
}

// serve starts the sender of a download.
func (t *turn) serve() (source, error) {
	if t.Sender == NGTCP2 {
		return t.newNGTCP2Source()
	}
	p, addr, err := t.startServer(serverConfig{Server: servers.Stock, Addr: t.lab.Sender.Addr, Shards: 1}, t.at.sender)
	return &sourceProcess{p, addr}, err
}

// A sourceProcess is a sender of ours.
type sourceProcess struct {
	p    *proc.Process
	addr string
}

func (s *sourceProcess) url() string { return "https://" + s.addr + pathBytes }
func (s *sourceProcess) sized() bool { return true }

func (s *sourceProcess) begin() error { return s.p.Ask(askBegin, new(received)) }

func (s *sourceProcess) sent() (sentReport, error) { return ask(s.p, askSent) }
