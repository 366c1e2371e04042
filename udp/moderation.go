package udp

import "time"

// DefaultModeration is how long a reader pauses at most while datagrams come
// fast. See WithModeration.
const DefaultModeration = 100 * time.Microsecond

// MaxModeration is the longest pause that WithModeration takes: a connection
// over a local network would notice longer ones.
const MaxModeration = 2 * time.Millisecond

// A moderator decides when a reader that has emptied its socket should let
// datagrams gather for a while instead of being woken by the next, as a network
// card does with its interrupts (ethtool -C, rx-usecs). A wake-up costs as much
// as tens of datagrams.
//
// It is off until datagrams come so fast that a pause gathers two or more, and
// off again as soon as pauses do not: when a burst is over, and when the other
// side waits for an answer, whose round trip a pause would only lengthen.
type moderator struct {
	max  time.Duration // longest pause, 0 for never
	room func() int    // bytes that the socket's receive buffer holds

	on     bool
	length time.Duration // of the next pause
	budget int           // bytes of payload that may come in a pause

	// While off: what has come since the look began.
	since   time.Duration
	packets int
	retry   time.Duration // not on before
	backoff time.Duration // next distance of retry

	// While on.
	strikes int // pauses that gathered one packet, less those that gathered more
	good    int // pauses that gathered more, since it went on
}

// Tuning of a moderator.
const (
	modLook       = 16  // packets over which the rate is looked at
	modPerPause   = 1.6 // packets that must be expected in a pause
	modStrikes    = 4   // strikes that turn it off
	modProven     = 32  // good pauses after which going on was right
	modShortest   = 20 * time.Microsecond
	modBackoff    = time.Millisecond
	modMaxBackoff = time.Second
	// modShare is the part of the receive buffer that may fill in a pause. The
	// kernel charges a datagram of 1252 bytes with 2304, and more must fit while
	// the reader is at work.
	modShare = 8
)

// pause is called when the socket is empty, with what came since the last call
// and the time. It returns how long to let datagrams gather, 0 for not at all:
// wait for the next one then.
func (m *moderator) pause(packets, bytes int, now time.Duration) time.Duration {
	if m.max == 0 {
		return 0
	}
	if !m.on {
		return m.consider(packets, now)
	}
	switch packets {
	case 0:
		m.stop(now, 0) // the burst is over
		return 0
	case 1:
		if m.strikes++; m.strikes >= modStrikes {
			m.backoff = min(max(2*m.backoff, modBackoff), modMaxBackoff)
			m.stop(now, m.backoff)
			return 0
		}
	default:
		m.strikes = max(0, m.strikes-1)
		if m.good++; m.good == modProven {
			m.backoff = 0
		}
	}
	switch {
	case bytes > m.budget:
		m.length = time.Duration(float64(m.length) * float64(m.budget) / float64(bytes))
		if m.length < modShortest {
			m.backoff = min(max(2*m.backoff, modBackoff), modMaxBackoff)
			m.stop(now, m.backoff)
			return 0
		}
	case bytes < m.budget/2:
		m.length = min(m.max, m.length+m.length/4)
	}
	return m.length
}

// consider turns moderation on if the rate is worth it.
func (m *moderator) consider(packets int, now time.Duration) time.Duration {
	m.packets += packets
	if m.packets < modLook {
		return 0
	}
	expected := float64(m.packets) * float64(m.max) / float64(max(1, now-m.since))
	m.since, m.packets = now, 0
	if expected < modPerPause || now < m.retry {
		return 0
	}
	m.on, m.strikes, m.good = true, 0, 0
	m.length, m.budget = m.max, m.room()/modShare
	return m.length
}

// stop turns moderation off, for a while at least.
func (m *moderator) stop(now, wait time.Duration) {
	m.on = false
	m.retry = now + wait
	m.since, m.packets = now, 0
}
