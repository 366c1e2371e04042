package recv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// foreign is iperf3's run in a cell.
func (m *matrix) foreign(ctx context.Context, cell Cell) Row {
	row := newRow(m.Path, cell, foreignReader)
	row.Foreign = true
	text, err := m.iperf(ctx, cell)
	if err == nil {
		err = row.fillForeign(text)
	}
	if err != nil {
		row = newRow(m.Path, cell, foreignReader)
		row.Foreign, row.Skipped = true, err.Error()
	}
	return row
}

// iperf runs a server and a client of iperf3 and returns what the client says.
func (m *matrix) iperf(ctx context.Context, cell Cell) ([]byte, error) {
	iperf3, err := exec.LookPath("iperf3")
	switch {
	case err != nil:
		return nil, fmt.Errorf("no iperf3: %w; install iperf3", err)
	case cell.Flows > maxForeignFlows:
		return nil, fmt.Errorf("iperf3 takes up to %d flows", maxForeignFlows)
	case cell.Pin && runtime.NumCPU() < 2:
		return nil, errNotPinned
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	interval := foreignTime(m.interval(cell))
	ctx, cancel := context.WithTimeout(ctx, interval+runTimeout)
	defer cancel()
	to := m.lab.Receiver.Addr.String()
	receiverAt, senderAt := m.places(cell)
	server := exec.CommandContext(ctx, iperf3, "--server", "--one-off", "--json", "--bind", to, "--port", port) //nolint:gosec // found on PATH
	serving, err := proc.Start(server, receiverAt)
	if err != nil {
		return nil, err
	}
	defer serving.Kill()
	if err := listening(ctx, server.Process.Pid, port); err != nil {
		return nil, err
	}
	client := exec.CommandContext(ctx, iperf3, "--client", to, "--port", port, "--json", "--udp", //nolint:gosec // likewise
		"--bitrate", strconv.Itoa(bitrate(cell)), "--parallel", strconv.Itoa(cell.Flows),
		"--length", strconv.Itoa(cell.Payload), "--time", strconv.Itoa(int(interval/time.Second)))
	client.Stderr = io.Discard // it warns of the TCP segment size; an error is in the JSON
	sending, err := proc.Start(client, senderAt)
	if err != nil {
		return nil, err
	}
	text, err := sending.Output()
	if len(text) > 0 {
		return text, nil // which says what failed, if anything did
	}
	return nil, err
}

// bitrate is what iperf3 is to send in a stream, in bits of payload a second; 0 is all
// it can.
func bitrate(cell Cell) int {
	if cell.Rate == 0 {
		return 0
	}
	return max(1, cell.Rate*cell.Payload*8/cell.Flows)
}

// freePort is a TCP port that nobody has in this namespace; in one of a lab's nobody
// has any.
func freePort(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, errors.Join(err, ln.Close())
}

// listening waits until a process has its port. A connection to try would be taken for
// the client's, so it looks at what the kernel lists in the process's namespace.
func listening(ctx context.Context, pid int, port string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	entry := fmt.Sprintf(":%04X 00000000:0000 0A ", n) // state LISTEN
	for {
		list, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
		if err != nil {
			return errors.Join(errors.New("iperf3 ended before it listened"), err)
		}
		if strings.Contains(string(list), entry) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("iperf3 does not listen")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
