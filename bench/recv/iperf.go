package recv

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// foreignTime is for how long iperf3 sends: it takes whole seconds.
func foreignTime(interval time.Duration) time.Duration {
	return max(time.Second, interval.Truncate(time.Second))
}

// maxForeignFlows is how many streams iperf3 takes (MAX_STREAMS).
const maxForeignFlows = 128

// An iperfReport is what `iperf3 -c -u -J` says, as far as it is of use. The receiver
// is the remote end.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Sent struct {
			Packets uint64  `json:"packets"`
			Seconds float64 `json:"seconds"`
		} `json:"sum_sent"`
		Received struct {
			Bytes   uint64  `json:"bytes"`
			Seconds float64 `json:"seconds"`
		} `json:"sum_received"`
		CPU struct {
			Sender   float64 `json:"host_total"`
			Receiver float64 `json:"remote_total"`
		} `json:"cpu_utilization_percent"`
	} `json:"end"`
}

// fillForeign sets what iperf3 says of a run. It counts by numbers, and knows nothing
// of the kernel's drops.
func (row *Row) fillForeign(text []byte) error {
	var r iperfReport
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("what iperf3 says: %w", err)
	}
	if r.Error != "" {
		return errors.New("iperf3: " + r.Error)
	}
	e := &r.End
	if e.Sent.Seconds <= 0 || e.Received.Seconds <= 0 || e.Received.Bytes == 0 {
		return errors.New("iperf3 received nothing")
	}
	row.Rounds = 1
	row.Sent = e.Sent.Packets
	row.Received = e.Received.Bytes / uint64(row.Payload)
	row.Lost = row.Sent - min(row.Sent, row.Received)
	row.Unaccounted = row.Lost
	row.Accounting = "by iperf3's own numbers"
	row.OfferedPPS = float64(row.Sent) / e.Sent.Seconds
	row.ReceivedPPS = float64(row.Received) / e.Received.Seconds
	row.Gbit = row.ReceivedPPS * float64(row.Payload) * 8 / 1e9
	row.Utilization, row.SenderUtilization = e.CPU.Receiver/100, e.CPU.Sender/100
	row.CPU = row.Utilization * e.Received.Seconds * 1e9 / float64(row.Received)
	row.CPULow, row.CPUHigh = row.CPU, row.CPU
	row.Train = 1
	if row.Rate > 0 && row.OfferedPPS < 0.95*float64(row.Rate) {
		row.Invalid = "the sender did not reach the rate"
	}
	return nil
}
