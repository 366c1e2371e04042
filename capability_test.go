package tailfin

import (
	"fmt"
	"testing"
	"time"
)

// fakeClock is a clock that a test moves.
type fakeClock struct{ t time.Time }

func (c *fakeClock) now() time.Time          { return c.t }
func (c *fakeClock) advance(d time.Duration) { c.t = c.t.Add(d) }

func TestCapabilities(t *testing.T) {
	const origin = "example.com:443"
	clock := &fakeClock{time.Unix(1e9, 0)}
	for _, tc := range []struct {
		name string
		do   func(c *Capabilities)
		want Capability
		left time.Duration
	}{
		{"nothing", func(*Capabilities) {}, Unknown, 0},
		{"offered", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3=":443"; ma=60`}) }, Supported, time.Minute},
		{"offered by name", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3="EXAMPLE.com:443"; ma=60; persist=1`}) }, Supported, time.Minute},
		{"on another port", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3=":8443"`}) }, Unknown, 0},
		{"on another host", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3="cdn.example:443"`}) }, Unknown, 0},
		{"a draft", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3-29=":443"`}) }, Unknown, 0},
		{"the second entry", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3="cdn.example:443", h3=":443"; ma=5`}) }, Supported, 5 * time.Second},
		{"malformed", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"; ma=60`})
			if c.Learn(origin, []string{`h3=":443`}) == nil {
				t.Error("malformed, and no error")
			}
		}, Supported, time.Minute},
		{"taken back", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"`})
			_ = c.Learn(origin, []string{"clear"})
		}, Unknown, 0},
		{"replaced", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"`})
			_ = c.Learn(origin, []string{`h2=":443"`})
		}, Unknown, 0},
		{"no field changes nothing", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"; ma=60`})
			_ = c.Learn(origin, nil)
		}, Supported, time.Minute},
		{"over", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"; ma=60`})
			clock.advance(time.Minute)
		}, Unknown, 0},
		{"ma=0", func(c *Capabilities) { _ = c.Learn(origin, []string{`h3=":443"; ma=0`}) }, Unknown, 0},
		{"failed", func(c *Capabilities) { c.MarkUnsupported(origin) }, Unsupported, 24 * time.Hour},
		{"failed outlasts an offer", func(c *Capabilities) {
			c.MarkUnsupported(origin)
			clock.advance(time.Hour)
			_ = c.Learn(origin, []string{`h3=":443"`})
			_ = c.Learn(origin, []string{"clear"})
		}, Unsupported, 23 * time.Hour},
		{"failed long ago", func(c *Capabilities) {
			c.MarkUnsupported(origin)
			clock.advance(24 * time.Hour)
		}, Unknown, 0},
		{"offered after a failure", func(c *Capabilities) {
			c.MarkUnsupported(origin)
			clock.advance(24 * time.Hour)
			_ = c.Learn(origin, []string{`h3=":443"; ma=60`})
		}, Supported, time.Minute},
		{"answered", func(c *Capabilities) { c.MarkSupported(origin) }, Supported, supportedFor},
		{"answered within a longer offer", func(c *Capabilities) {
			_ = c.Learn(origin, []string{`h3=":443"; ma=172800`})
			c.MarkSupported(origin)
		}, Supported, 48 * time.Hour},
		{"answered after a failure", func(c *Capabilities) {
			c.MarkUnsupported(origin)
			c.MarkSupported(origin)
		}, Supported, supportedFor},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Capabilities{Now: clock.now}
			tc.do(c)
			got, until := c.Of(origin)
			want(t, got, tc.want)
			if got != Unknown {
				want(t, until.Sub(clock.now()), tc.left)
			}
			other, _ := c.Of("other.example:443")
			want(t, other, Unknown)
		})
	}
	want(t, fmt.Sprint(Unknown, Supported, Unsupported, Capability(9)), "unknown supported unsupported capability(9)")
}

// TestCapabilitiesAreBounded has more authorities than are kept.
func TestCapabilitiesAreBounded(t *testing.T) {
	c := &Capabilities{MaxAuthorities: 10, UnsupportedFor: time.Hour}
	for i := range 1000 {
		c.MarkUnsupported(fmt.Sprintf("host%d:443", i))
		_ = c.Learn(fmt.Sprintf("other%d:443", i), []string{`h3=":443"`})
		_, _ = c.Of("asked:443")
	}
	want(t, c.lru.Len(), 10)
	got, _ := c.Of("host999:443")
	want(t, got, Unsupported)
	got, _ = c.Of("host0:443")
	want(t, got, Unknown)
}
