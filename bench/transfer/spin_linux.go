package transfer

import (
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/proc"
)

// runSpinner is the role of a process that uses all of a processor that it is let have,
// and says how much that was.
func runSpinner(in io.Reader, out io.Writer) error {
	ownSession()
	var end atomic.Bool
	defer end.Store(true)
	go func() {
		for !end.Load() {
		}
	}()
	return answer(in, out, func(line string) (any, bool) {
		return sentReport{CPU: proc.Used().CPU}, line == askSent
	})
}

// ownSession puts this process into a session of its own, to which the kernel gives a
// processor as a whole (CONFIG_SCHED_AUTOGROUP, kernel.sched_autogroup_enabled; sched(7)).
// Otherwise it is shared by threads, and a receiver with two that want to run gets twice
// as much, as quic-go's has with several connections. Where the kernel does not, the share
// that a receiver got tells.
func ownSession() { _, _ = unix.Setsid() }

// neighbours are spinners on the receiver's processor.
type neighbours []*proc.Process

func (t *turn) startNeighbours() (list neighbours, err error) {
	for range t.neighbours() {
		p, err := t.start(roleSpinner, struct{}{}, t.at.receiver)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// spun is the processor time that each has had so far, on average.
func (n neighbours) spun() (float64, error) {
	sum := 0.0
	for _, p := range n {
		report, err := ask(p, askSent)
		if err != nil {
			return 0, err
		}
		sum += report.CPU
	}
	return sum / float64(max(1, len(n))), nil
}
