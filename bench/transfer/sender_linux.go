package transfer

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go/http3"
)

// senderConfig is what a sender process is told.
type senderConfig struct {
	Addr    string `json:"addr"`
	Bytes   int64  `json:"bytes"` // of each body
	Streams int    `json:"streams"`
}

// sentReport is what a sender process reports, as JSON.
type sentReport struct {
	Error string `json:"error"`
}

// warmBytes is what each connection sends before it is measured.
const warmBytes = 4 << 20

// zeros is a body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// send makes the requests of a run, each stream on a connection of its own.
func send(c senderConfig) error {
	senders := make([]*http3.Transport, c.Streams)
	for i := range senders {
		senders[i] = &http3.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // loopback, and a certificate made for this run
			MinVersion:         tls.VersionTLS13,
		}}
	}
	all := func(path string, bytes int64) error {
		errs := make([]error, len(senders))
		var wg sync.WaitGroup
		for i, s := range senders {
			wg.Go(func() { errs[i] = put(s, "https://"+c.Addr+path, bytes) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := all(pathWarm, warmBytes/int64(c.Streams)); err != nil {
		return err
	}
	if err := put(senders[0], "https://"+c.Addr+pathBegin, 0); err != nil {
		return err
	}
	return all(pathBody, c.Bytes)
}

func put(tr *http3.Transport, url string, bytes int64) error {
	req, err := http.NewRequest(http.MethodPut, url, io.LimitReader(zeros{}, bytes))
	if err != nil {
		return err
	}
	req.ContentLength = bytes
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("PUT %s: %s", url, resp.Status)
	}
	return nil
}
