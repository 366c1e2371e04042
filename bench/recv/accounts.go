package recv

import (
	"fmt"

	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// An account is how what was sent and what was read are held against each other on a
// path.
type account struct {
	// joins is whether the kernel may join datagrams on the way, other than as they
	// were sent.
	joins bool
	// loses is whether the path may lose datagrams before they come to the socket.
	loses bool
}

// accountOf knows the paths on which trains come whole and nothing is lost. Any other
// cuts trains: what is joined again is up to the kernel, and datagrams may be lost
// before that.
func accountOf(path string) account {
	switch path {
	case netlab.Loopback, "veth":
		return account{}
	}
	return account{joins: true, loses: true}
}

// maxJoined is how many datagrams the kernel joins (UDP_GRO_CNT_MAX).
const maxJoined = 64

// reconcile compares what was sent with what was read and with what the kernel dropped
// at the socket. It counts what it drops as one, be it a datagram or a train.
func (r *run) reconcile(segments int, a account) {
	low, high := uint64(1), uint64(1) // datagrams of a drop
	switch {
	case r.GRO && a.joins:
		high = maxJoined
	case r.GRO:
		low, high = uint64(segments), uint64(segments)
	}
	r.missing = r.sent - min(r.sent, r.Received)
	switch {
	case r.Received > r.sent:
		r.wrong = fmt.Sprintf("received %d of %d sent", r.Received, r.sent)
	case r.Foreign > 0:
		r.wrong = fmt.Sprintf("%d datagrams were not of the sender", r.Foreign)
	case r.missing < r.Drops*low || r.missing > r.Drops*high && !a.loses:
		r.wrong = fmt.Sprintf("%d missing, %d dropped by the kernel (each %d datagrams)", r.missing, r.Drops, low)
	case r.missing > r.Drops*high:
		r.unaccounted = r.missing - r.Drops*high
	}
	r.bounded = low != high && r.Drops > 0
}

// accounting says how the accounts of some runs are, beginning with "exact" if each
// missing datagram is known to have been dropped at the socket.
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
		return fmt.Sprintf("bounded: %d missing, the socket dropped %d trains of 1 to %d, at least %d were lost on the path", missing, drops, maxJoined, unaccounted)
	case unaccounted > 0:
		return fmt.Sprintf("%d lost on the path", unaccounted)
	}
	return accountsExact
}

// accountsExact is Row.Accounting where nothing is left open.
const accountsExact = "exact"
