package decode

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tailfin-quic/tailfin/bench/rounds"
)

// The transcripts.
const (
	Headers        = "headers"         // requests and responses without content
	Data1200       = "data-1200"       // an upload in DATA frames of 1200 bytes
	Data8K         = "data-8k"         // and of 8 KiB
	Small          = "small"           // an upload in DATA frames of 1 to 60 bytes
	Mixed          = "mixed"           // a response: DATA of 1 byte to 16 KiB, unknown frames, trailers
	RequestFields  = "request-fields"  // field sections of requests, without frames
	ResponseFields = "response-fields" // and of responses
)

// The readers.
const (
	Varint = "varint" // the floor: only the two integers of each frame are read
	HTTP2  = "http2"  // golang.org/x/net/http2.Framer
	Frames = "h3frame"
	Stream = "h3frame-stream"

	HTTP2Chunks = "http2-chunks"  // cut as h3frame's is
	Whole       = "h3frame-whole" // not cut, as http2's is not

	HTTP2Meta = "http2-meta" // with ReadMetaHeaders, so that it decodes heads
	Message   = "h3frame-message"

	QPACK      = "qpack"       // quic-go/qpack
	HPACK      = "hpack"       // golang.org/x/net/http2/hpack, without a dynamic table
	HPACKTable = "hpack-table" // with one
	Fields     = "h3frame-fields"
	Heads      = "h3frame-head"
)

// Transcripts lists all of them, in the order in which they are reported.
var Transcripts = []string{Headers, Data1200, Data8K, Small, Mixed, RequestFields, ResponseFields}

// Readers lists those of a transcript, in the order in which they are reported; nil for
// none that there is.
func Readers(transcript string) []string {
	switch transcript {
	case Headers, Data1200, Data8K, Small, Mixed:
		return []string{Varint, HTTP2, HTTP2Chunks, Whole, Frames, Stream, HTTP2Meta, Message}
	case RequestFields, ResponseFields:
		return []string{QPACK, HPACK, HPACKTable, Fields, Heads}
	}
	return nil
}

// A Config says what to measure.
type Config struct {
	Transcript string
	Time       time.Duration // of a turn
	Pin        bool
	rounds.Plan
}

// The bounds of Config.Time. A turn has to be long to what the clocks tell apart.
const (
	minTime = time.Millisecond
	maxTime = time.Minute
)

// Check says what is wrong with a Config.
func (c *Config) Check() error {
	var errs []error
	if !slices.Contains(Transcripts, c.Transcript) {
		errs = append(errs, fmt.Errorf("no transcript %q; there are %v", c.Transcript, Transcripts))
	}
	if c.Time < minTime || c.Time > maxTime {
		errs = append(errs, fmt.Errorf("a turn of %v; give %v to %v", c.Time, minTime, maxTime))
	}
	return errors.Join(append(errs, c.Plan.Check())...)
}
