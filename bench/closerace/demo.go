package closerace

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tailfin-quic/tailfin"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/udp"
)

// DemoConfig says how to run the close race.
type DemoConfig struct {
	// Iterations is the number of requests a row.
	Iterations int
	// BodyBytes is the size of each body.
	BodyBytes int
	// Delay is what the foreign server waits between FIN and CONNECTION_CLOSE.
	Delay time.Duration
	// Backend reads the datagrams on our side.
	Backend udp.Backend
	// Certificate is what the servers show. The clients trust any.
	Certificate tls.Certificate
	// Progress, if set, is called after each request with the row it counts in.
	Progress func(row DemoRow)
}

// DemoRow counts one direction with the drain on or off.
type DemoRow struct {
	Scenario  string `json:"scenario"`  // closerace
	Direction string `json:"direction"` // upload or download, as a client sees it
	Sender    string `json:"sender"`    // who sends and closes at once
	Receiver  string `json:"receiver"`  // who must not lose it
	Drain     string `json:"drain"`     // on or off
	Backend   string `json:"backend"`
	BodyBytes int    `json:"payload_bytes"`
	Requests  int    `json:"requests"`
	Whole     int    `json:"whole"`
	Lost      int    `json:"lost"`
	// SavedBytes is what the barrier took out of streams at a close.
	SavedBytes uint64 `json:"saved_bytes"`
	// Unsent counts requests that the sender could not make. They are neither
	// whole nor lost.
	Unsent int `json:"unsent"`
}

// RaceOccurred tells that in some row without the drain something was lost:
// otherwise the rows with it prove nothing.
func RaceOccurred(rows []DemoRow) bool {
	for _, r := range rows {
		if r.Drain == "off" && r.Lost > 0 {
			return true
		}
	}
	return false
}

// Demo runs uploads whose client closes at once, and downloads whose
// server does, each with the drain off and on in turns. The sender of an
// upload is our own Transport.SendAndClose; the sender of a download is
// golang.org/x/net/quic, which is not ours and not quic-go.
func Demo(ctx context.Context, conf DemoConfig) ([]DemoRow, error) {
	uploads, err := uploadRace(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("close race, upload: %w", err)
	}
	downloads, err := downloadRace(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("close race, download: %w", err)
	}
	return append(uploads, downloads...), nil
}

func (c DemoConfig) row(direction, sender, receiver string, drain bool) DemoRow {
	row := DemoRow{
		Scenario: "closerace", Direction: direction, Sender: sender, Receiver: receiver,
		Drain: "off", BodyBytes: c.BodyBytes,
	}
	if drain {
		row.Drain = "on"
	}
	return row
}

func (c DemoConfig) progress(row DemoRow) {
	if c.Progress != nil {
		c.Progress(row)
	}
}

// trusting is a client's TLS configuration that takes the test certificate.
func trusting() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} //nolint:gosec // loopback, and a certificate made for this run
}

// quiet drops the log lines of peers that behave as the race wants.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// uploadRace runs two receivers, and uploads to them in turn.
func uploadRace(ctx context.Context, conf DemoConfig) ([]DemoRow, error) {
	receivers := make([]*uploadReceiver, 2)
	for i, drain := range []bool{false, true} {
		r, err := newUploadReceiver(conf, drain)
		if err != nil {
			return nil, err
		}
		defer r.close()
		receivers[i] = r
	}
	sender := &tailfin.Transport{TLSClientConfig: trusting(), Logger: quiet()}
	defer func() { _ = sender.Close() }()
	body := peer.Pattern(conf.BodyBytes)
	for i := range conf.Iterations {
		for _, r := range receivers {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			url := fmt.Sprintf("https://%s/%d", r.conn.LocalAddr(), i)
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			r.row.Requests++
			if err := sender.SendAndClose(req); err != nil {
				r.row.Unsent++
			}
			conf.progress(r.row)
		}
	}
	rows := make([]DemoRow, 0, len(receivers))
	for _, r := range receivers {
		row, err := r.result(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// An uploadReceiver counts the bodies that came whole.
type uploadReceiver struct {
	row    DemoRow
	conn   *udp.Conn
	server *tailfin.Server
	served chan error
	want   []byte

	stored chan struct{} // capacity 1; a body has come whole
	mu     sync.Mutex
	whole  map[string]bool
}

func newUploadReceiver(conf DemoConfig, drain bool) (*uploadReceiver, error) {
	conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(conf.Backend))
	if err != nil {
		return nil, err
	}
	r := &uploadReceiver{
		row:    conf.row("upload", "tailfin", "tailfin", drain),
		conn:   conn,
		served: make(chan error, 1),
		want:   peer.Pattern(conf.BodyBytes),
		stored: make(chan struct{}, 1),
		whole:  make(map[string]bool),
	}
	r.row.Backend = conn.Backend().String()
	r.server = &tailfin.Server{
		Handler:      http.HandlerFunc(r.receive),
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{conf.Certificate}, MinVersion: tls.VersionTLS13},
		DisableDrain: !drain,
		Logger:       quiet(),
	}
	go func() { r.served <- r.server.Serve(conn) }()
	return r, nil
}

func (r *uploadReceiver) receive(_ http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil || !bytes.Equal(body, r.want) {
		return
	}
	r.mu.Lock()
	r.whole[strings.TrimPrefix(req.URL.Path, "/")] = true
	r.mu.Unlock()
	select {
	case r.stored <- struct{}{}:
	default:
	}
}

// settle is how long an upload may take from being sent to being stored before
// it counts as lost.
const settle = time.Second

// result waits for what is under way, stops the receiver, and counts.
func (r *uploadReceiver) result(ctx context.Context) (DemoRow, error) {
	r.wait(ctx, r.row.Requests-r.row.Unsent)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		return r.row, err
	}
	if err := <-r.served; !errors.Is(err, tailfin.ErrServerClosed) {
		return r.row, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Whole = len(r.whole)
	r.row.Lost = r.row.Requests - r.row.Unsent - r.row.Whole
	r.row.SavedBytes = r.server.DrainStats().Bytes
	return r.row, nil
}

// wait returns when n bodies are whole, or none has come for the settle time.
func (r *uploadReceiver) wait(ctx context.Context, n int) {
	for {
		r.mu.Lock()
		have := len(r.whole)
		r.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-r.stored:
		case <-time.After(settle):
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *uploadReceiver) close() {
	_ = r.server.Close()
	_ = r.conn.Close()
}

// downloadRace runs a foreign server that answers and closes, and fetches from
// it by two clients in turn, each request on a new connection.
func downloadRace(ctx context.Context, conf DemoConfig) ([]DemoRow, error) {
	server, err := peer.ListenXNet("127.0.0.1:0", conf.Certificate, peer.XNetOptions{CloseAfterResponse: true, Delay: conf.Delay})
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }()
	url := fmt.Sprintf("https://%s/bytes/%d", server.Addr(), conf.BodyBytes)
	want := peer.Pattern(conf.BodyBytes)

	backend := conf.Backend
	rows := []DemoRow{
		conf.row("download", "x/net/quic", "tailfin", false),
		conf.row("download", "x/net/quic", "tailfin", true),
	}
	clients := make([]*tailfin.Transport, len(rows))
	for i := range clients {
		clients[i] = &tailfin.Transport{
			TLSClientConfig: trusting(),
			ListenOptions:   []udp.Option{udp.WithBackend(backend)},
			DisableDrain:    rows[i].Drain == "off",
			Logger:          quiet(),
		}
		defer func() { _ = clients[i].Close() }()
	}
	for range conf.Iterations {
		for i, client := range clients {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			row := &rows[i]
			row.Requests++
			body, err := fetch(ctx, client, url)
			var dial *tailfin.DialError
			switch {
			case errors.As(err, &dial):
				row.Unsent++
			case err == nil && bytes.Equal(body, want):
				row.Whole++
			default:
				row.Lost++
			}
			conf.progress(*row)
			client.CloseIdleConnections()
		}
	}
	for i, client := range clients {
		rows[i].SavedBytes = client.DrainStats().Bytes
		rows[i].Backend = client.Backend().String()
	}
	return rows, nil
}

func fetch(ctx context.Context, client *tailfin.Transport, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}
