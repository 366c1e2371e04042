package recv

import (
	"fmt"

	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// An account is how what was sent and what was read are held against each other on a
// path.
type account struct {
	whole bool // trains cross as they were sent
	joins bool // the kernel may join datagrams on the way, to trains of any length
	loses bool // datagrams may be lost before they come to the socket
}

// accountOf knows what each path does to trains. A wire hands datagrams over one by
// one. Any other path but the first two cuts trains, and what is joined again is up to
// the kernel.
func accountOf(path, emulator string) account {
	switch {
	case path == netlab.Loopback || path == netlab.Veth:
		return account{whole: true}
	case emulator == netlab.Wire:
		return account{loses: true}
	}
	return account{joins: true, loses: true}
}

// maxJoined is how many datagrams the kernel joins (UDP_GRO_CNT_MAX).
const maxJoined = 64

// reconcile compares what was sent with what was read, with what the path's own counters
// say it has lost, and with what the kernel dropped at the socket. That counts what it
// drops as one, be it a datagram or a train.
func (r *run) reconcile(segments int, a account) {
	low, high := uint64(1), uint64(1) // datagrams of a drop
	switch {
	case r.GRO && a.joins:
		high = maxJoined
	case r.GRO && a.whole:
		low, high = uint64(segments), uint64(segments)
	}
	r.missing = r.sent - min(r.sent, r.Received)
	beyond := r.missing - min(r.missing, r.gone) // what the path does not know of
	switch {
	case r.Received > r.sent:
		r.wrong = fmt.Sprintf("received %d of %d sent", r.Received, r.sent)
	case r.Foreign > 0:
		r.wrong = fmt.Sprintf("%d datagrams were not of the sender", r.Foreign)
	case r.missing < r.Drops*low+r.gone || beyond > r.Drops*high && !a.loses:
		r.wrong = fmt.Sprintf("%d missing, %d dropped by the kernel (each %d datagrams), %d lost on the path", r.missing, r.Drops, low, r.gone)
	case beyond > r.Drops*high:
		r.unaccounted = beyond - r.Drops*high
	}
	r.bounded = low != high && r.Drops > 0
}

// accounting says how the accounts of some runs are: exact, if it is known of each missing
// datagram whether it was dropped at the socket or lost on the path.
func accounting(rs []run) string {
	var missing, drops, unaccounted uint64
	bounded := false
	for _, r := range rs {
		if r.wrong != "" {
			return r.wrong
		}
		missing += r.missing
		drops += r.Drops
		unaccounted += r.unaccounted
		bounded = bounded || r.bounded
	}
	switch {
	case bounded:
		// The kernel's counter has trains of any length.
		return fmt.Sprintf("bounded: %d missing, the socket dropped %d trains of 1 to %d, at least %d are unaccounted for", missing, drops, maxJoined, unaccounted)
	case unaccounted > 0:
		return fmt.Sprintf("%d lost, neither at the socket nor where the path counts", unaccounted)
	}
	return accountsExact
}

// accountsExact is Row.Accounting where nothing is left open.
const accountsExact = "exact"
