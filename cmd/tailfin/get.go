package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/client"
)

// getCmd is `tailfin get`.
type getCmd struct {
	URL        []string `arg:"" name:"url" placeholder:"URL" help:"What to fetch."`
	Output     string   `short:"o" placeholder:"FILE" help:"Write the body here, whole or not at all. Without it the body goes to standard output."`
	RemoteName bool     `short:"O" help:"Write each body to a file with the last part of its URL as its name."`
	OutputDir  string   `placeholder:"DIR" help:"The folder for -O, which it implies; the working folder otherwise."`
	Continue   bool     `short:"C" help:"Go on with what an earlier run has left in FILE.part, if the server still has the same version."`
	SHA256     string   `name:"sha256" placeholder:"HEX" help:"Fail, and write nothing, unless the body has this SHA-256."`
	Count      int      `default:"1" placeholder:"N" help:"Fetch each URL N times; bodies are checked and only the last is written (${default})."`
	clientFlags
}

// A getJob is one request: the last one for a URL keeps the body.
type getJob struct {
	url  *url.URL
	path string // to write to; empty for standard output or nowhere
	keep bool
}

// Run fetches, and fails unless every body was whole and every status below 400.
func (c *getCmd) Run(ctx context.Context) error {
	jobs, err := c.jobs()
	if err != nil {
		return err
	}
	stream := jobs[0].path == "" && !c.JSON
	s, err := c.session(len(jobs), stream)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	defer s.Progress.Close()
	if c.OutputDir != "" {
		if err := os.MkdirAll(c.OutputDir, 0o755); err != nil {
			return &usageError{"--output-dir", c.OutputDir, err, "name a folder that can be written"}
		}
	}
	single := len(jobs) == 1
	var firstErr error // of the only request
	batch := client.Batch{Parallel: c.Parallel, Transfer: func(ctx context.Context, i int) (int64, error) {
		res, err := c.fetch(ctx, s, jobs[i])
		s.Progress.Done()
		switch {
		case c.JSON:
			line, _ := json.Marshal(res)
			s.Progress.Print(os.Stdout, string(line)+"\n")
		case single:
			firstErr = err
			if err == nil && s.Progress != nil && res.File != "" {
				s.Progress.Print(os.Stderr, fmt.Sprintf("%s: %s in %d ms\n", res.File, client.Size(res.Bytes), res.MS))
			}
		case err != nil:
			s.Progress.Print(os.Stderr, fmt.Sprintf("tailfin: request %d of %d: %v\n", i+1, len(jobs), err))
		}
		return res.Bytes - res.Resumed, err
	}}
	sum := batch.Run(ctx, len(jobs))
	s.Progress.Close()
	switch {
	case single && firstErr != nil:
		return c.usage(firstErr)
	case !single && !c.JSON && !c.Quiet:
		fmt.Fprintln(os.Stderr, sum)
	}
	return outcome(ctx, sum, len(jobs), "requests")
}

func (c *getCmd) fetch(ctx context.Context, s *client.Session, job getJob) (client.Downloaded, error) {
	what := client.Download{URL: job.url, SHA256: strings.ToLower(c.SHA256)}
	switch {
	case job.keep && job.path != "":
		what.Path, what.Continue = job.path, c.Continue
	case job.keep && !c.JSON:
		what.Writer = os.Stdout
	}
	return s.Get(ctx, what)
}

// usage makes an output that cannot be written a mistake of the command line.
func (c *getCmd) usage(err error) error {
	var file *client.FileError
	if errors.As(err, &file) && file.Unwritable {
		return &usageError{"-o", file.Path, file.Err, "name a file in a folder that can be written"}
	}
	return err
}

// jobs checks the flags, and lists the requests.
func (c *getCmd) jobs() ([]getJob, error) {
	named := c.RemoteName || c.OutputDir != ""
	sum, err := hex.DecodeString(c.SHA256)
	switch {
	case c.Count < 1:
		return nil, &usageError{"--count", fmt.Sprint(c.Count), errors.New("nothing to do"), "give 1 or more"}
	case c.Output != "" && named:
		return nil, &usageError{"-o", c.Output, errors.New("-O and --output-dir name files by their URL"), "leave one of the two out"}
	case c.Output != "" && len(c.URL) > 1:
		return nil, &usageError{"-o", c.Output, errors.New("one file for several URLs"), "use -O or --output-dir DIR, which name files by their URL"}
	case !named && !c.JSON && len(c.URL) > 1:
		return nil, &usageError{"URL", fmt.Sprintf("and %d more", len(c.URL)-1), errors.New("several bodies for standard output"), "use -O or --output-dir DIR to write files, or --json to check only"}
	case c.Continue && c.Output == "" && !named:
		return nil, &usageError{"-C", "", errors.New("standard output cannot be gone on with"), "name a file with -o or -O"}
	case c.SHA256 != "" && (err != nil || len(sum) != 32):
		return nil, &usageError{"--sha256", c.SHA256, errors.New("not a SHA-256"), "give 64 hexadecimal digits, as sha256sum prints"}
	case c.SHA256 != "" && len(c.URL) > 1:
		return nil, &usageError{"--sha256", c.SHA256, errors.New("one sum for several URLs"), "get them one by one"}
	}
	var jobs []getJob
	seen := map[string]bool{}
	for _, text := range c.URL {
		u, err := parseURL(text)
		if err != nil {
			return nil, err
		}
		job := getJob{url: u, path: c.Output}
		if named {
			if job.path, err = remoteName(u, c.OutputDir); err != nil {
				return nil, err
			}
			if seen[job.path] {
				return nil, &usageError{"-O", job.path, errors.New("two of the URLs have this name"), "get them one by one, with -o"}
			}
			seen[job.path] = true
		}
		for n := range c.Count {
			job.keep = n == c.Count-1
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// remoteName is the file in dir that -O writes.
func remoteName(u *url.URL, dir string) (string, error) {
	name := path.Base(u.EscapedPath())
	if plain, err := url.PathUnescape(name); err == nil && !strings.ContainsAny(plain, "/\x00") {
		name = plain
	}
	if name == "." || name == "/" || name == ".." || strings.HasSuffix(u.Path, "/") {
		return "", &usageError{"-O", u.String(), errors.New("the URL does not end in a name"), "name the file with -o"}
	}
	return filepath.Join(dir, name), nil
}
