package takeover

import (
	"crypto/rand"
	"crypto/tls"
	"sync"
	"time"
)

// Keys are what instances share, so that clients notice nothing: stateless resets
// for connections of an instance that has died, address validation tokens, and TLS
// session tickets.
type Keys struct {
	StatelessReset [32]byte   `json:"stateless_reset"`
	Token          [32]byte   `json:"token"`
	Tickets        [][32]byte `json:"tickets"` // the first encrypts, all decrypt
}

func newKeys() Keys {
	var k Keys
	_, _ = rand.Read(k.StatelessReset[:]) // never fails (Go 1.24)
	_, _ = rand.Read(k.Token[:])
	return k
}

// Session tickets are encrypted with one key for a day, as crypto/tls does it, and
// are good for a week at most (RFC 8446 §4.6.1).
const (
	ticketKeyAge  = 24 * time.Hour
	maxTicketKeys = 7
)

// A ticketKeys encrypts session tickets.
type ticketKeys struct {
	conf tls.Config // has the keys, and encrypts and decrypts with them

	mu   sync.Mutex
	keys [][32]byte
	made time.Time // the first of keys
}

// newTicketKeys takes the keys of older instances, and adds one of its own.
func newTicketKeys(older [][32]byte) *ticketKeys {
	t := &ticketKeys{keys: older}
	t.rotate()
	return t
}

// rotate adds a key. The caller holds mu, or is alone.
func (t *ticketKeys) rotate() {
	var key [32]byte
	_, _ = rand.Read(key[:])
	t.keys = append([][32]byte{key}, t.keys[:min(len(t.keys), maxTicketKeys-1)]...)
	t.made = time.Now()
	t.conf.SetSessionTicketKeys(t.keys)
}

// current returns the keys, of which the first is not older than a day.
func (t *ticketKeys) current() [][32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.made) > ticketKeyAge {
		t.rotate()
	}
	return t.keys
}

// use has a configuration encrypt its tickets here. quic-go and tailfin.Server make
// copies of a tls.Config, which later keys of the original would not reach.
func (t *ticketKeys) use(conf *tls.Config) {
	conf.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		t.current()
		return t.conf.EncryptTicket(cs, ss)
	}
	conf.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		return t.conf.DecryptTicket(identity, cs)
	}
}
