package main

import (
	"context"
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

// resumableFrom is the size of a file in bytes from which a later run can go on with
// an upload without having been asked for it: a smaller one is soon sent again.
const resumableFrom = 8 << 20

// putCmd is `tailfin put`.
type putCmd struct {
	Args []string `arg:"" name:"file|- url" placeholder:"FILE|- URL" help:"What to upload, - is standard input, and last where to. A file's name is added to a URL that ends in /."`

	CloseAfterFIN bool `name:"close-after-fin" help:"Send the request with FIN and CONNECTION_CLOSE back to back, and wait for no answer."`
	Resume        bool `short:"C" help:"Go on with what an earlier run has begun, if the server can and the file is the same."`
	Count         int  `default:"1" placeholder:"N" help:"Upload each file N times, to URL-1 to URL-N (${default})."`
	clientFlags
}

// A putJob is one upload.
type putJob struct {
	file string
	url  *url.URL
	size int64 // 0 if it is not known
}

// Run uploads, and fails if any upload did.
func (c *putCmd) Run(ctx context.Context) error {
	jobs, err := c.jobs()
	if err != nil {
		return err
	}
	s, err := c.session(len(jobs), false)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	defer s.Progress.Close()
	for _, job := range jobs {
		if job.size > 0 {
			s.Progress.Expect(1, job.size)
		}
	}
	single := len(jobs) == 1
	var firstErr error // of the only upload
	batch := client.Batch{Parallel: c.Parallel, Transfer: func(ctx context.Context, i int) (int64, error) {
		job := jobs[i]
		res, err := s.Put(ctx, client.Upload{
			URL: job.url, Path: job.file, CloseAfterFIN: c.CloseAfterFIN, Resume: c.Resume,
			Resumable: c.Retries > 0 || c.Count == 1 && job.size >= resumableFrom,
		})
		s.Progress.Done()
		if single && !c.JSON && err != nil {
			firstErr = fmt.Errorf("%s: %w", res.URL, err)
		} else {
			c.report(s.Progress, res)
		}
		return res.Bytes - res.Resumed, err
	}}
	sum := batch.Run(ctx, len(jobs))
	s.Progress.Close()
	switch {
	case single && firstErr != nil:
		return firstErr
	case !single && !c.JSON && !c.Quiet:
		fmt.Fprintln(os.Stderr, sum)
	}
	return outcome(ctx, sum, len(jobs), "uploads")
}

func (c *putCmd) report(p *client.Progress, res client.Uploaded) {
	switch {
	case c.JSON:
		line, _ := json.Marshal(res)
		p.Print(os.Stdout, string(line)+"\n")
	case res.Error != "":
		p.Print(os.Stderr, fmt.Sprintf("%s: %s\n", res.URL, res.Error))
	case c.CloseAfterFIN:
		p.Print(os.Stdout, fmt.Sprintf("%s: sent %d bytes with FIN and close in %d ms\n", res.URL, res.Bytes, res.MS))
	default:
		p.Print(os.Stdout, fmt.Sprintf("%s: %d, %d bytes in %d ms\n", res.URL, res.Status, res.Bytes, res.MS))
	}
}

// jobs checks the arguments, and lists the uploads.
func (c *putCmd) jobs() ([]putJob, error) {
	if len(c.Args) < 2 {
		return nil, &usageError{"put", strings.Join(c.Args, " "), errors.New("a FILE and a URL are wanted"), "give tailfin put FILE https://HOST:PORT/NAME"}
	}
	files, last := c.Args[:len(c.Args)-1], c.Args[len(c.Args)-1]
	target, err := parseURL(last)
	if err != nil {
		return nil, err
	}
	folder := target.Path == "" || strings.HasSuffix(target.Path, "/")
	switch {
	case c.Count < 1:
		return nil, &usageError{"--count", fmt.Sprint(c.Count), errors.New("nothing to do"), "give 1 or more"}
	case c.Resume && c.CloseAfterFIN:
		return nil, &usageError{"--resume", "", errors.New("--close-after-fin leaves nothing to go on with"), "leave one of the two out"}
	case len(files) > 1 && !folder:
		return nil, &usageError{"URL", last, fmt.Errorf("one name for %d files", len(files)), "end the URL in /, and each file keeps its name"}
	}
	var jobs []putJob
	seen := map[string]string{}
	for _, file := range files {
		job, err := c.job(file, *target, folder)
		if err != nil {
			return nil, err
		}
		if other, twice := seen[job.url.Path]; twice {
			return nil, &usageError{"FILE", file, fmt.Errorf("has the name of %s", other), "put them one by one, to different URLs"}
		}
		seen[job.url.Path] = file
		for i := range c.Count {
			if c.Count > 1 {
				numbered := *job.url
				numbered.Path += fmt.Sprintf("-%d", i+1)
				numbered.RawPath = ""
				jobs = append(jobs, putJob{file, &numbered, job.size})
				continue
			}
			jobs = append(jobs, job)
		}
	}
	return jobs, nil
}

// job completes the target for a file, and refuses what cannot work.
func (c *putCmd) job(file string, target url.URL, folder bool) (putJob, error) {
	if file == "-" {
		switch {
		case c.Count > 1:
			return putJob{}, &usageError{"--count", fmt.Sprint(c.Count), errors.New("standard input can be read once"), "name a file"}
		case c.Resume:
			return putJob{}, &usageError{"--resume", "", errors.New("standard input cannot be read again"), "name a file"}
		case folder:
			return putJob{}, &usageError{"URL", target.String(), errors.New("standard input has no name"), "end the URL in /NAME"}
		}
		return putJob{file: file, url: &target}, nil
	}
	info, err := os.Stat(file)
	if err == nil && info.IsDir() {
		err = errors.New("is a folder")
	}
	if err == nil && info.Mode().IsRegular() {
		err = readable(file)
	}
	if err != nil {
		return putJob{}, &usageError{"FILE", file, err, "name a readable file, or - for standard input"}
	}
	if folder {
		target.Path = path.Join("/", target.Path, filepath.Base(file))
		target.RawPath = ""
	}
	job := putJob{file: file, url: &target}
	if info.Mode().IsRegular() {
		job.size = info.Size()
	}
	return job, nil
}

func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}
