package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench"
	"github.com/tailfin-quic/tailfin/bench/closerace"
	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/devcert"
	"github.com/tailfin-quic/tailfin/udp"
)

// demoCmd is `tailfin demo`.
type demoCmd struct {
	Iterations int           `default:"100" placeholder:"N" help:"Requests a row (${default})."`
	Size       int           `default:"9000" placeholder:"BYTES" help:"Size of each body (${default})."`
	Delay      time.Duration `default:"10us" placeholder:"TIME" help:"What the foreign server waits between FIN and close (${default})."`
	Backend    string        `default:"auto" placeholder:"NAME" help:"How to read datagrams: auto, uring, mmsg or msg (${default})."`
	JSON       bool          `name:"json" help:"Print one JSON object instead of the table."`
	Matrix     bool          `help:"Run every shape of message and every way to close instead, with the close in the very packet or batch of the last bytes."`

	ClosingServer string `name:"closing-server" placeholder:"ADDR" help:"Run only the foreign server, on this address, to try any client: it answers GET /bytes/N and closes at once."`
}

// maxDemoBody bounds the body. Senders close without a look at what was lost on
// the way, so that larger ones measure the loopback's buffers and not the close.
const maxDemoBody = 256 << 10

// Run runs the race, and fails if the drain lost anything.
func (c *demoCmd) Run(ctx context.Context) error {
	backend, err := udp.ParseBackend(c.Backend)
	if err != nil {
		return &usageError{"--backend", c.Backend, err, "give auto, uring, mmsg or msg"}
	}
	if c.Iterations < 1 {
		return &usageError{"--iterations", fmt.Sprint(c.Iterations), fmt.Errorf("nothing to do"), "give 1 or more"}
	}
	if c.Size < 0 || c.Size > maxDemoBody {
		return &usageError{"--size", fmt.Sprint(c.Size), fmt.Errorf("not from 0 to %d", maxDemoBody), "give a size that fits into the socket buffers"}
	}
	cert, err := devcert.New()
	if err != nil {
		return err
	}
	if c.ClosingServer != "" {
		return c.serve(ctx, cert)
	}
	if c.Matrix {
		return c.matrix(ctx, backend, cert)
	}
	conf := closerace.DemoConfig{
		Iterations: c.Iterations, BodyBytes: c.Size, Delay: c.Delay, Backend: backend, Certificate: cert,
	}
	if isTerminal(os.Stderr) {
		conf.Progress = func(row closerace.DemoRow) {
			fmt.Fprintf(os.Stderr, "\r%-8s %d of %d ", row.Direction, row.Requests, c.Iterations)
		}
	}
	rows, err := closerace.Demo(ctx, conf)
	if conf.Progress != nil {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(map[string]any{
			"environment": bench.Environ(), "rows": rows, "race_occurred": closerace.RaceOccurred(rows),
		})
	} else {
		err = printRace(os.Stdout, rows)
	}
	if err != nil {
		return err
	}
	lost := 0
	for _, r := range rows {
		if r.Drain == "on" {
			lost += r.Lost
		}
	}
	if lost > 0 {
		return fmt.Errorf("the drain lost %d messages; please report this with `tailfin doctor --json`", lost)
	}
	return nil
}

// serve runs the foreign server until a signal.
func (c *demoCmd) serve(ctx context.Context, cert tls.Certificate) error {
	server, err := peer.ListenXNet(c.ClosingServer, cert, peer.XNetOptions{CloseAfterResponse: true, Delay: c.Delay})
	if err != nil {
		return &usageError{"--closing-server", c.ClosingServer, err, "give HOST:PORT of this machine with a free UDP port"}
	}
	fmt.Fprintf(os.Stderr, "ready listen=%s peer=x/net/quic delay=%s\n", server.Addr(), c.Delay)
	<-ctx.Done()
	return server.Close()
}

// printRace prints the table, and what it means.
func printRace(w io.Writer, rows []closerace.DemoRow) error {
	fmt.Fprintf(w, "The sender puts the last byte, FIN and CONNECTION_CLOSE (H3_NO_ERROR) on the wire back to back.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "direction\tsender\treceiver\tdrain\trequests\twhole\tlost\tsaved at close\n")
	for _, r := range rows {
		receiver := r.Receiver + " (" + r.Backend + ")"
		saved := "-"
		if r.Drain == "on" {
			saved = fmt.Sprintf("%d bytes", r.SavedBytes)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", r.Direction, r.Sender, receiver, r.Drain, r.Requests, r.Whole, r.Lost, saved)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Unsent > 0 {
			fmt.Fprintf(w, "\n%d requests of row %s, drain %s, could not be sent and count as neither.\n", r.Unsent, r.Direction, r.Drain)
		}
	}
	if !closerace.RaceOccurred(rows) {
		fmt.Fprintf(w, "\nThe race did not occur: nothing was lost without the drain either, so this run proves nothing.\nTry more --iterations, a larger --size, or GOMAXPROCS=1.\n")
		return nil
	}
	fmt.Fprintf(w, "\n\"drain off\" is quic-go as it is: at the close it drops what it received and nobody has read yet.\n")
	return nil
}

// isTerminal tells whether progress can be drawn on f.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
