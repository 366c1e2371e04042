package peer

import (
	"bytes"
	"sync"
)

// An Output keeps what a program or a log writes, and may be read meanwhile. Its zero
// value is empty.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write takes more.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String is what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
