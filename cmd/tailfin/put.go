package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// putCmd is `tailfin put`.
type putCmd struct {
	File string `arg:"" placeholder:"FILE|-" help:"What to upload; - is standard input."`
	URL  string `arg:"" name:"url" placeholder:"URL" help:"Where to; the file's name is added to a URL that ends in /."`

	CloseAfterFIN bool `name:"close-after-fin" help:"Send the request with FIN and CONNECTION_CLOSE back to back, and wait for no answer."`
	Count         int  `default:"1" placeholder:"N" help:"Upload N times, to URL-1 to URL-N, each on a connection of its own (${default})."`
	JSON          bool `name:"json" help:"Print one line of JSON an upload."`
	clientFlags
}

// putResult is the line of one upload.
type putResult struct {
	URL    string `json:"url"`
	Status int    `json:"status"` // 0 if no answer was waited for
	Bytes  int64  `json:"bytes"`
	MS     int64  `json:"ms"`
	Error  string `json:"error"`
}

// Run uploads, and fails if any upload did.
func (c *putCmd) Run(ctx context.Context) error {
	target, err := parseURL(c.URL)
	if err != nil {
		return err
	}
	if err := c.check(target); err != nil {
		return err
	}
	failed := 0
	for i := range c.Count {
		u := *target
		if c.Count > 1 {
			u.Path += fmt.Sprintf("-%d", i+1)
		}
		res, err := c.upload(ctx, &u)
		var usage *usageError
		if errors.As(err, &usage) {
			return err
		}
		if err != nil {
			failed++
			res.Error = err.Error()
			if c.Count == 1 && !c.JSON {
				return fmt.Errorf("%s: %w", res.URL, err)
			}
		}
		c.report(res)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d of %d uploads", i+1, c.Count)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d uploads failed", failed, c.Count)
	}
	return nil
}

// check completes the target, and refuses what cannot work.
func (c *putCmd) check(target *url.URL) error {
	if c.Count < 1 {
		return &usageError{"--count", fmt.Sprint(c.Count), errors.New("nothing to do"), "give 1 or more"}
	}
	if c.File == "-" {
		if c.Count > 1 {
			return &usageError{"--count", fmt.Sprint(c.Count), errors.New("standard input can be read once"), "name a file"}
		}
		if target.Path == "" || strings.HasSuffix(target.Path, "/") {
			return &usageError{"URL", c.URL, errors.New("standard input has no name"), "end the URL in /NAME"}
		}
		return nil
	}
	if target.Path == "" || strings.HasSuffix(target.Path, "/") {
		target.Path = path.Join("/", target.Path, filepath.Base(c.File))
	}
	info, err := os.Stat(c.File)
	if err == nil && info.IsDir() {
		err = errors.New("is a folder")
	}
	if err != nil {
		return &usageError{"FILE", c.File, err, "name a readable file, or - for standard input"}
	}
	return nil
}

// upload sends the file once, on a connection of its own.
func (c *putCmd) upload(ctx context.Context, u *url.URL) (putResult, error) {
	res := putResult{URL: u.String()}
	start := time.Now()
	defer func() { res.MS = time.Since(start).Milliseconds() }()
	tr, err := c.transport()
	if err != nil {
		return res, err
	}
	defer func() { _ = tr.Close() }()
	req, err := c.request(ctx, u)
	if err != nil {
		return res, err
	}
	count := &countingBody{ReadCloser: req.Body}
	req.Body = count
	if c.CloseAfterFIN {
		err := tr.SendAndClose(req)
		res.Bytes, res.MS = count.n, time.Since(start).Milliseconds()
		return res, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		res.Bytes, res.MS = count.n, time.Since(start).Milliseconds()
		return res, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	res.Status, res.Bytes, res.MS = resp.StatusCode, count.n, time.Since(start).Milliseconds()
	if resp.StatusCode >= 300 {
		return res, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return res, err
}

func (c *putCmd) request(ctx context.Context, u *url.URL) (*http.Request, error) {
	body := io.ReadCloser(os.Stdin)
	length := int64(-1)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, &usageError{"FILE", c.File, err, "name a readable file, or - for standard input"}
		}
		body = f
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			length = info.Size()
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	if length == 0 {
		_ = body.Close()
		req.Body = http.NoBody
	}
	return req, nil
}

func (c *putCmd) report(res putResult) {
	if c.JSON {
		_ = json.NewEncoder(os.Stdout).Encode(res)
		return
	}
	switch {
	case res.Error != "":
		fmt.Fprintf(os.Stderr, "%s: %s\n", res.URL, res.Error)
	case c.CloseAfterFIN:
		fmt.Printf("%s: sent %d bytes with FIN and close in %d ms\n", res.URL, res.Bytes, res.MS)
	default:
		fmt.Printf("%s: %d, %d bytes in %d ms\n", res.URL, res.Status, res.Bytes, res.MS)
	}
}

// countingBody counts what was read of a body.
type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
