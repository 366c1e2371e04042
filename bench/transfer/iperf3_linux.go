package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/proc"
)

// iperf3Report is what its client says with --json, as far as we look.
type iperf3Report struct {
	Error string `json:"error"`
	End   struct {
		Received struct {
			Seconds float64 `json:"seconds"`
			Bytes   int64   `json:"bytes"`
		} `json:"sum_received"`
		CPU struct { // in percent of one processor
			Sender   float64 `json:"host_total"`
			Receiver float64 `json:"remote_total"`
		} `json:"cpu_utilization_percent"`
	} `json:"end"`
}

// iperf3Seconds is the length of its turn. It measures by seconds: of a few bytes it may
// say that none have arrived.
const iperf3Seconds = 2

// iperf3 is a turn over TCP, by iperf3 alone: what the machine and the path do without
// encryption, and with what the kernel does for TCP.
func (t *turn) iperf3() (res result, err error) {
	path, err := exec.LookPath("iperf3")
	if err != nil {
		return res, fmt.Errorf("iperf3: %w; Debian has it in the package iperf3", peer.ErrNotInstalled)
	}
	port, err := freePort()
	if err != nil {
		return res, err
	}
	host := t.lab.Receiver.Addr.String()
	cmd := exec.CommandContext(t.ctx, path, "--server", "--bind", host, "--port", strconv.Itoa(int(port)))
	p, err := proc.Start(cmd, t.at.receiver)
	if err != nil {
		return res, err
	}
	t.processes = append(t.processes, p)
	var report iperf3Report
	for range 50 { // until the server listens
		if report, err = t.iperf3Client(path, host, port); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return res, err
	}
	got := report.End.Received
	res.Bytes, res.Whole, res.Seconds = got.Bytes, t.flows, got.Seconds
	res.CPU = report.End.CPU.Receiver / 100 * got.Seconds
	res.sender = sentReport{Bytes: got.Bytes, Bodies: t.flows, Seconds: got.Seconds, CPU: report.End.CPU.Sender / 100 * got.Seconds}
	return res, nil
}

func (t *turn) iperf3Client(path, host string, port uint16) (report iperf3Report, err error) {
	dir, err := t.tempDir()
	if err != nil {
		return report, err
	}
	log := filepath.Join(dir, "report")
	cmd := exec.CommandContext(t.ctx, path, "--json", "--logfile", log, "--client", host, "--port", strconv.Itoa(int(port)), //nolint:gosec // found by LookPath
		"--parallel", strconv.Itoa(t.flows), "--time", strconv.Itoa(iperf3Seconds))
	if _, err := proc.Start(cmd, t.at.sender); err != nil {
		return report, err
	}
	failed := cmd.Wait()
	text, err := os.ReadFile(log)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if report.Error != "" {
		err = errors.New(report.Error)
	}
	if err = errors.Join(failed, err); err != nil {
		return report, fmt.Errorf("iperf3: %w", err)
	}
	return report, nil
}
