package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/google/renameio/v2"
)

// getCmd is `tailfin get`.
type getCmd struct {
	URL    string `arg:"" name:"url" placeholder:"URL" help:"What to fetch."`
	Output string `short:"o" placeholder:"FILE" help:"Write the body here, whole or not at all. Without it the body goes to standard output."`
	Count  int    `default:"1" placeholder:"N" help:"Fetch N times, each on a connection of its own; bodies are checked and only the last is written (${default})."`
	JSON   bool   `name:"json" help:"Print one line of JSON a request instead of the body."`
	clientFlags
}

// getResult is the line of one request; others script against its names.
type getResult struct {
	Status   int    `json:"status"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
	Complete bool   `json:"complete"`
	Error    string `json:"error"`
}

// Run fetches, and fails unless every body was whole and every status below 400.
func (c *getCmd) Run(ctx context.Context) error {
	u, err := parseURL(c.URL)
	if err != nil {
		return err
	}
	if c.Count < 1 {
		return &usageError{"--count", fmt.Sprint(c.Count), errors.New("nothing to do"), "give 1 or more"}
	}
	failed := 0
	for i := range c.Count {
		res, err := c.fetch(ctx, u, i == c.Count-1)
		var usage *usageError
		if errors.As(err, &usage) {
			return err
		}
		if err != nil {
			failed++
			res.Error = err.Error()
			if c.Count == 1 && !c.JSON {
				return err
			}
			if !c.JSON {
				fmt.Fprintf(os.Stderr, "tailfin: request %d of %d: %v\n", i+1, c.Count, err)
			}
		}
		if c.JSON {
			_ = json.NewEncoder(os.Stdout).Encode(res)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d of %d requests", i+1, c.Count)
		}
	}
	if c.Count > 1 && !c.JSON {
		fmt.Fprintf(os.Stderr, "%d requests: %d whole, %d failed\n", c.Count, c.Count-failed, failed)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, c.Count)
	}
	return nil
}

// fetch gets the URL once, on a connection of its own. keep says that the body
// is wanted and not only checked.
func (c *getCmd) fetch(ctx context.Context, u *url.URL, keep bool) (getResult, error) {
	var res getResult
	tr, err := c.transport()
	if err != nil {
		return res, err
	}
	defer func() { _ = tr.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return res, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return res, err
	}
	defer func() { _ = resp.Body.Close() }()
	res.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusBadRequest {
		reason, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return res, fmt.Errorf("%s: %s", resp.Status, reason)
	}

	out, commit, err := c.output(keep)
	if err != nil {
		return res, err
	}
	sum := sha256.New()
	res.Bytes, err = io.Copy(io.MultiWriter(out, sum), resp.Body)
	res.SHA256 = hex.EncodeToString(sum.Sum(nil))
	res.Complete = err == nil
	return res, commit(err)
}

// output returns where the body goes, and what to do after it. That takes the
// error of the transfer and returns what is to be reported.
func (c *getCmd) output(keep bool) (io.Writer, func(error) error, error) {
	pass := func(err error) error { return err }
	switch {
	case keep && c.Output != "":
		tmp, err := renameio.NewPendingFile(c.Output, renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
		if err != nil {
			return nil, nil, &usageError{"-o", c.Output, err, "name a file in a folder that can be written"}
		}
		return tmp, func(err error) error {
			defer func() { _ = tmp.Cleanup() }()
			if err != nil {
				return err
			}
			return tmp.CloseAtomicallyReplace()
		}, nil
	case keep && !c.JSON:
		return os.Stdout, pass, nil
	}
	return io.Discard, pass, nil
}
