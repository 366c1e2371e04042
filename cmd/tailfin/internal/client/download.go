package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// A Download is one GET.
type Download struct {
	URL *url.URL
	// Path is the file to write. Without it the body goes to Writer, and without
	// either it is only checked.
	Path   string
	Writer io.Writer
	// Continue takes up what an earlier run has left of Path.
	Continue bool
	// SHA256 is what the body must have, in hexadecimal. Empty takes any.
	SHA256 string
}

// A Downloaded is the outcome of a Download; others script against its names.
type Downloaded struct {
	Status   int    `json:"status"`
	Bytes    int64  `json:"bytes"` // of the body that are here
	SHA256   string `json:"sha256"`
	Complete bool   `json:"complete"`
	Error    string `json:"error"`
	URL      string `json:"url"`
	MS       int64  `json:"ms"`
	Attempts int    `json:"attempts"`
	Resumed  int64  `json:"resumed"` // bytes that an earlier run had left
	File     string `json:"file,omitempty"`
}

// Get downloads, and returns nil only if the body is whole and where it was wanted.
func (s *Session) Get(ctx context.Context, what Download) (Downloaded, error) {
	start := time.Now()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	d := &download{session: s, what: what, sum: sha256.New(), total: -1, res: Downloaded{URL: what.URL.String(), File: what.Path}}
	err := d.run(ctx)
	d.res.MS = time.Since(start).Milliseconds()
	if err != nil {
		d.res.Error = err.Error()
	}
	return d.res, err
}

// A download is a Download under way.
type download struct {
	session *Session
	what    Download
	target  target
	held    held
	sum     hash.Hash // of the bytes held
	counted int64     // bytes that the progress shows
	total   int64     // that the progress expects, -1 for none yet
	res     Downloaded
}

func (d *download) run(ctx context.Context) error {
	if err := d.openTarget(); err != nil {
		return err
	}
	d.res.Resumed = d.held.Bytes
	d.show()
	err := d.transfer(ctx)
	d.res.Bytes = d.held.Bytes
	if d.res.Status != 0 && d.res.Status < http.StatusBadRequest {
		d.res.SHA256 = hex.EncodeToString(d.sum.Sum(nil))
	}
	d.res.Complete = err == nil
	if want := d.what.SHA256; err == nil && want != "" && want != d.res.SHA256 {
		err = fmt.Errorf("the body has SHA-256 %s and not %s; nothing of it is kept", d.res.SHA256, want)
		d.held.validator = validator{}
		_ = d.target.restart()
	}
	if err == nil {
		return d.target.commit()
	}
	if kept := d.target.abandon(); kept != "" {
		d.session.note("%s", kept)
	}
	return err
}

func (d *download) openTarget() error {
	d.held = held{Length: -1}
	switch {
	case d.what.Path != "":
		var err error
		d.target, d.held, err = openTarget(d.what.Path, d.res.URL, d.what.Continue)
		if err != nil {
			return err
		}
		if part, ok := d.target.(*partFile); ok {
			if err := part.hash(d.sum); err != nil {
				part.abandon()
				return &FileError{Path: d.what.Path, Err: err}
			}
		}
	case d.what.Writer != nil:
		d.target = &streamTarget{w: d.what.Writer}
	default:
		d.target = discard{io.Discard}
	}
	return nil
}

// transfer makes attempts until the body is whole.
func (d *download) transfer(ctx context.Context) error {
	tr, release := d.session.lease()
	defer release()
	r := &retrier{session: d.session, what: d.res.URL}
	for overs := 0; ; {
		before := d.held.Bytes
		d.res.Attempts++
		err := d.attempt(ctx, tr)
		var over *startOverError
		if errors.As(err, &over) && overs == 0 {
			overs++
			d.session.note("%s: %v", d.res.URL, over)
			continue
		}
		if err == nil || !r.again(ctx, err, d.held.Bytes-before) {
			return err
		}
	}
}

// attempt asks for what is missing, and takes it.
func (d *download) attempt(ctx context.Context, tr *tailfin.Transport) error {
	req, err := d.session.request(ctx, http.MethodGet, d.what.URL, nil)
	if err != nil {
		return err
	}
	// What has all its bytes, and has missed the end, asks for the last one again:
	// no range is empty, and only an answer says that the version still stands.
	from := d.held.Bytes
	if from > 0 && from == d.held.Length {
		from--
	}
	resuming := d.held.resumable()
	if resuming {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		req.Header.Set("If-Range", d.held.ifRange())
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	d.session.verboseResponse(tr, resp)
	d.res.Status = resp.StatusCode
	switch {
	case resp.StatusCode == http.StatusPartialContent && resuming:
		if err := d.checkRange(resp, from); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, resp.Body, d.held.Bytes-from); err != nil {
			return err
		}
	case resp.StatusCode == http.StatusPartialContent:
		return errors.New("206 Partial Content to a request for all of it")
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && resuming:
		return d.startOver("the server has no such range any more")
	case resp.StatusCode >= http.StatusBadRequest:
		return statusError(resp)
	default:
		if err := d.beginWith(resp); err != nil {
			return err
		}
	}
	return d.take(resp.Body)
}

// checkRange holds a 206 against what was asked for.
func (d *download) checkRange(resp *http.Response, from int64) error {
	if d.held.contradicts(resp.Header) {
		return d.startOver("the server has another version now")
	}
	got, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	switch {
	case got.first != from:
		return fmt.Errorf("%s: bytes from %d on, where %d was asked for", resp.Status, got.first, from)
	case got.complete >= 0 && d.held.Length >= 0 && got.complete != d.held.Length:
		return d.startOver(fmt.Sprintf("the server has %d bytes now, and had %d", got.complete, d.held.Length))
	case d.held.Length < 0:
		d.held.Length = got.complete
		d.show()
	}
	return nil
}

// beginWith takes a body from its first byte on. If some of it is here already it
// has changed since, or the server knows no ranges.
func (d *download) beginWith(resp *http.Response) error {
	if err := d.forget(); err != nil {
		return fmt.Errorf("the server does not go on after %d bytes: %w", d.held.Bytes, err)
	}
	d.held = held{URL: d.res.URL, validator: strongValidator(resp.Header), Length: resp.ContentLength}
	if resp.StatusCode != http.StatusOK {
		d.held.validator = validator{} // only a 200 is the representation that a 206 is part of
	}
	d.show()
	return d.target.begin(d.held)
}

// startOver gives up what is here, so that the next attempt asks for all.
func (d *download) startOver(reason string) error {
	if err := d.forget(); err != nil {
		return fmt.Errorf("%s; %w", reason, err)
	}
	return &startOverError{reason}
}

// A startOverError is a body that cannot be gone on with. The first one is no
// failure of the transfer: the next attempt asks for all.
type startOverError struct{ reason string }

func (e *startOverError) Error() string { return e.reason + "; starting over" }

// forget gives up what is here.
func (d *download) forget() error {
	if d.held.Bytes == 0 {
		return nil
	}
	if err := d.target.restart(); err != nil {
		return err
	}
	d.res.Resumed = 0
	d.held.Bytes, d.held.validator = 0, validator{}
	d.sum.Reset()
	d.show()
	return nil
}

// take copies the rest of the body to where it belongs.
func (d *download) take(body io.Reader) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			w, werr := d.target.Write(buf[:n])
			d.held.Bytes += int64(w)
			d.sum.Write(buf[:w])
			d.show()
			if werr != nil {
				return &FileError{Path: d.outputName(), Err: werr}
			}
		}
		switch {
		case err == io.EOF:
			return d.whole()
		case err != nil:
			return err
		}
	}
}

// whole tells a body that came to its end from a range that did.
func (d *download) whole() error {
	if d.held.Length >= 0 && d.held.Bytes < d.held.Length {
		return &retryError{fmt.Errorf("the range ended after %d of %d bytes", d.held.Bytes, d.held.Length)}
	}
	if d.held.Length >= 0 && d.held.Bytes > d.held.Length {
		return fmt.Errorf("%d bytes came of %d", d.held.Bytes, d.held.Length)
	}
	return nil
}

func (d *download) outputName() string {
	if d.what.Path != "" {
		return d.what.Path
	}
	return "standard output"
}

// show brings the progress up to date.
func (d *download) show() {
	d.session.Progress.Add(d.held.Bytes - d.counted)
	d.counted = d.held.Bytes
	switch length := d.held.Length; {
	case length < 0 || length == d.total:
	case d.total < 0:
		d.session.Progress.Expect(1, length)
		d.total = length
	default:
		d.session.Progress.Expect(0, length-d.total)
		d.total = length
	}
}
