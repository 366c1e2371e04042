package tailfin

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// DefaultUnsupportedFor is how long HTTP/3 is not tried with an authority after a
// transport failure.
const DefaultUnsupportedFor = 24 * time.Hour

// DefaultMaxAuthorities bounds the authorities that Capabilities and Breaker keep.
// Who links to whom decides how many a client meets, so that there must be a bound.
const DefaultMaxAuthorities = 10_000

// supportedFor is how long a response over HTTP/3 speaks for the next one.
const supportedFor = 24 * time.Hour

// Capability says whether an authority speaks HTTP/3.
type Capability int

const (
	// Unknown means that nothing has been learned, or that it was too long ago.
	Unknown Capability = iota
	// Supported means that it said so by Alt-Svc, or has answered over HTTP/3.
	Supported
	// Unsupported means that there was a transport failure.
	Unsupported
)

// String returns the capability as logs and metrics spell it.
func (c Capability) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case Supported:
		return "supported"
	case Unsupported:
		return "unsupported"
	}
	return fmt.Sprintf("capability(%d)", int(c))
}

// Capabilities remembers which authorities, host:port, speak HTTP/3. What was
// learned longest ago is forgotten first. The zero value is ready to use; it is
// safe for concurrent use and must not be copied.
type Capabilities struct {
	// UnsupportedFor is how long Unsupported lasts. Zero means DefaultUnsupportedFor.
	UnsupportedFor time.Duration
	// MaxAuthorities bounds what is kept. Zero means DefaultMaxAuthorities.
	MaxAuthorities int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	mu  sync.Mutex
	lru *simplelru.LRU[string, capabilityEntry]
}

type capabilityEntry struct {
	capability Capability
	until      time.Time
}

func (c *Capabilities) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// entries returns the cache. The caller holds mu.
func (c *Capabilities) entries() *simplelru.LRU[string, capabilityEntry] {
	if c.lru == nil {
		size := c.MaxAuthorities
		if size <= 0 {
			size = DefaultMaxAuthorities
		}
		c.lru, _ = simplelru.NewLRU[string, capabilityEntry](size, nil) // fails for a size below 1 only
	}
	return c.lru
}

// Of returns what is known of an authority, and until when.
func (c *Capabilities) Of(authority string) (Capability, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of(authority)
}

func (c *Capabilities) of(authority string) (Capability, time.Time) {
	e, ok := c.entries().Get(authority)
	if !ok {
		return Unknown, time.Time{}
	}
	if !c.now().Before(e.until) {
		c.entries().Remove(authority)
		return Unknown, time.Time{}
	}
	return e.capability, e.until
}

// MarkUnsupported remembers a transport failure for UnsupportedFor.
func (c *Capabilities) MarkUnsupported(authority string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.UnsupportedFor
	if d <= 0 {
		d = DefaultUnsupportedFor
	}
	c.entries().Add(authority, capabilityEntry{Unsupported, c.now().Add(d)})
}

// MarkSupported remembers a response over HTTP/3. It takes back Unsupported, as
// it is the better proof, and shortens no promise of an Alt-Svc.
func (c *Capabilities) MarkSupported(authority string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.now().Add(supportedFor)
	if now, had := c.of(authority); now == Supported && had.After(until) {
		until = had
	}
	c.entries().Add(authority, capabilityEntry{Supported, until})
}

// Learn takes the Alt-Svc values of a response of the authority (RFC 7838 §3), in
// any version of HTTP. An entry for h3 on the authority's own host and port makes
// it Supported for as long as its ma says; entries for other hosts and ports, and
// other parameters, are ignored. "clear", and a field without such an entry, take
// back what an earlier one has said. Unsupported outlasts all of them: a peer that
// offers HTTP/3 on a path that does not carry it offers it with each response.
// Learn returns an error for a malformed field, which changes nothing.
func (c *Capabilities) Learn(authority string, altSvc []string) error {
	if len(altSvc) == 0 {
		return nil
	}
	list, _, err := parseAltSvc(altSvc)
	if err != nil {
		return fmt.Errorf("tailfin: %s: %w", authority, err)
	}
	age, offered := offersH3(list, authority)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch had, _ := c.of(authority); {
	case had == Unsupported:
	case offered && age > 0:
		c.entries().Add(authority, capabilityEntry{Supported, c.now().Add(age)})
	default:
		c.entries().Remove(authority)
	}
	return nil
}
