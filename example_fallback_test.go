package tailfin

import (
	"fmt"
	"net/http"
	"time"
)

// HTTP/3 where an authority speaks it, HTTP/2 or HTTP/1.1 elsewhere.
func ExampleFallback() {
	transport := &Fallback{
		HTTP3:   &Transport{IdleConnTimeout: time.Minute},
		Breaker: &Breaker{Failures: 10},
	}
	defer func() { _ = transport.Close() }()
	client := &http.Client{Transport: transport}
	_, err := client.Get("https://no-such-host.invalid/")
	fmt.Println(err != nil)
	// Output: true
}

// What a gateway makes of an error.
func ExampleOutcomeOf() {
	err := &GracefulClose{Progress: Progress{Phase: PhaseHeaders}}
	o := OutcomeOf(err)
	fmt.Println(o.Class, o.Phase, "retry safe:", o.RetrySafe, "breaker:", o.Breaker, "keeps HTTP/3:", !o.MarksUnsupported)
	// Output: graceful-close headers retry safe: false breaker: ignored keeps HTTP/3: true
}

// What an Alt-Svc says of an authority.
func ExampleCapabilities() {
	var c Capabilities
	_ = c.Learn("example.com:443", []string{`h3=":443"; ma=86400, h3=":8443"`})
	known, _ := c.Of("example.com:443")
	fmt.Println(known)
	c.MarkUnsupported("example.com:443") // after a transport failure
	known, _ = c.Of("example.com:443")
	fmt.Println(known)
	// Output:
	// supported
	// unsupported
}
