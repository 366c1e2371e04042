package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tailfin-quic/tailfin"
)

// An Upload is one PUT.
type Upload struct {
	URL  *url.URL
	Path string // - is standard input
	// CloseAfterFIN sends FIN and CONNECTION_CLOSE back to back and waits for no answer.
	CloseAfterFIN bool
	// Resumable invites the server to make the upload one that can be resumed, and
	// remembers it for a later run.
	Resumable bool
	// Resume goes on with what an earlier run has begun.
	Resume bool
}

// An Uploaded is the outcome of an Upload; others script against its names.
type Uploaded struct {
	URL      string `json:"url"`
	Status   int    `json:"status"` // 0 if no answer was waited for
	Bytes    int64  `json:"bytes"`  // of the file that were sent, those of earlier runs too
	MS       int64  `json:"ms"`
	Error    string `json:"error"`
	SHA256   string `json:"sha256"` // of those bytes
	Attempts int    `json:"attempts"`
	Resumed  int64  `json:"resumed"` // bytes that the server had from an earlier run
	File     string `json:"file"`
}

// Put uploads, and returns nil only if the server has answered with success, or
// if no answer was wanted.
func (s *Session) Put(ctx context.Context, what Upload) (Uploaded, error) {
	start := time.Now()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	u := &upload{session: s, what: what, res: Uploaded{URL: what.URL.String(), File: what.Path}}
	err := u.run(ctx)
	u.res.MS = time.Since(start).Milliseconds()
	if err != nil {
		u.res.Error = err.Error()
	}
	return u.res, err
}

// An upload is an Upload under way.
type upload struct {
	session  *Session
	what     Upload
	src      *source
	journal  journal
	invites  bool            // the server is invited to make it resumable
	resource *uploadResource // nil until the server does, and from its answer on
	known    int64           // bytes that the server is known to have
	sent     atomic.Int64    // offset up to which the file was handed to QUIC
	res      Uploaded
}

func (u *upload) run(ctx context.Context) error {
	src, err := openSource(u.what.Path)
	if err != nil {
		return err
	}
	defer src.close()
	u.src = src
	u.prepare()
	tr, release := u.session.lease()
	defer release()
	if u.what.CloseAfterFIN {
		err = u.sendAndClose(ctx, tr)
	} else {
		err = u.transfer(ctx, tr)
	}
	u.res.Bytes = u.sent.Load()
	u.res.SHA256 = src.sha256()
	u.finish(err)
	return err
}

// prepare finds out whether and where an earlier run has begun.
func (u *upload) prepare() {
	u.invites = u.src.regular() && !u.what.CloseAfterFIN && (u.what.Resumable || u.what.Resume)
	if !u.invites {
		return
	}
	j, err := openJournal(u.what.URL, u.what.Path)
	if err != nil {
		u.forgetful(err)
		return
	}
	u.journal = j
	if !u.what.Resume {
		return
	}
	entry, ok := j.load()
	err = errors.New("no earlier run has begun it")
	if ok {
		err = entry.matches(u.src)
	}
	if err == nil {
		u.resource, err = entry.resource(u.session, u.what.URL)
	}
	if err != nil {
		u.session.note("%s: nothing to resume: %v; sending it from its start", u.res.URL, err)
	}
}

// forgetful is an upload that leaves nothing for a later run. That is worth a word to
// whoever asked for it only.
func (u *upload) forgetful(err error) {
	u.journal = journal{}
	if u.what.Resume || u.session.Verbose != nil {
		u.session.note("this upload cannot be resumed by a later run: %v", err)
	}
}

// finish says what an upload that has failed has left, and forgets one that has not.
func (u *upload) finish(err error) {
	switch {
	case err == nil || u.resource == nil:
		u.journal.remove()
	case u.journal.path != "":
		u.session.note("%s keeps what it has got%s; the same command with --resume goes on there", u.what.URL.Host, atLeast(u.known))
	}
}

func atLeast(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d bytes at least", n)
}

func (u *upload) sendAndClose(ctx context.Context, tr *tailfin.Transport) error {
	u.res.Attempts = 1
	req, err := u.creation(ctx)
	if err != nil {
		return err
	}
	return tr.SendAndClose(req)
}

// transfer makes attempts until the server has answered.
func (u *upload) transfer(ctx context.Context, tr *tailfin.Transport) error {
	r := &retrier{session: u.session, what: u.res.URL}
	for overs := 0; ; {
		before := u.known
		u.res.Attempts++
		err := u.attempt(ctx, tr)
		var (
			over  *startOverError
			limit *appendLimitError
			short *tailfin.RequestBodyError
		)
		switch {
		case err == nil:
			if u.res.Attempts == 1 && u.res.Resumed == 0 {
				return nil // at one go, as of any file that others may write to
			}
			return u.checkSource(ctx, tr)
		case errors.As(err, &over) && overs == 0:
			overs++
		case errors.As(err, &limit): // in parts as small as the server wants them
		case errors.As(err, &short) && u.src.changed() != nil: // it was cut under our hands
		case !r.again(ctx, err, u.known-before):
			return err
		}
		if err := u.checkSource(ctx, tr); err != nil {
			return err
		}
	}
}

// checkSource fails if the file changed since it was opened, and what the server has
// may be of two versions: parts of it were sent at different times, or are about to.
func (u *upload) checkSource(ctx context.Context, tr *tailfin.Transport) error {
	err := u.src.changed()
	if err != nil && u.resource != nil {
		u.resource.cancel(ctx, tr)
		u.resource = nil
	}
	return err
}

// attempt sends the file, or what the server lacks of it.
func (u *upload) attempt(ctx context.Context, tr *tailfin.Transport) error {
	if u.resource != nil {
		return u.goOn(ctx, tr)
	}
	u.setSent(0)
	if u.invites {
		ctx = watch104(ctx, u.on104)
	}
	req, err := u.creation(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = req.Body.Close() }()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		var limit *sizeLimitError
		if errors.As(err, &limit) {
			u.resource.cancel(context.WithoutCancel(ctx), tr)
			u.resource = nil
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	u.session.verboseResponse(tr, resp)
	return u.answer(resp)
}

// creation is the request that brings the whole file.
func (u *upload) creation(ctx context.Context) (*http.Request, error) {
	body, err := u.src.body(0, -1, u.moved)
	if err != nil {
		return nil, err
	}
	req, err := u.session.request(ctx, http.MethodPut, u.what.URL, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = u.src.size
	if u.src.size == 0 {
		req.Body = http.NoBody
	}
	if u.invites {
		invite(req.Header, u.src.size)
	}
	return req, nil
}

// on104 takes an interim response of the draft.
func (u *upload) on104(h textproto.MIMEHeader) error {
	if h.Get(fieldLocation) != "" && u.resource == nil {
		res, err := newResource(u.session, u.what.URL, h)
		if err != nil {
			u.session.note("%s: this upload cannot be resumed: %v", u.res.URL, err)
			return nil
		}
		u.resource = res
		if err := u.journal.save(u.src.entry(u.what.URL, res.location)); err != nil {
			u.forgetful(err)
		}
		return u.checkLimits()
	}
	if n, ok := integer(h.Get(fieldOffset)); ok && n > u.known && n <= u.sent.Load() {
		u.known = n
	}
	return nil
}

// answer reads what the server says after the whole file.
func (u *upload) answer(resp *http.Response) error {
	u.res.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusMultipleChoices {
		status := statusError(resp)
		status.final = boolean(resp.Header.Get(fieldComplete))
		if status.final || !transientStatus(status.Code) {
			u.resource = nil
		}
		return status
	}
	u.resource = nil
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	if err != nil {
		return err
	}
	return u.checkReceipt(text)
}

// checkReceipt holds what the server says to have stored, if it says so, against
// what was sent.
func (u *upload) checkReceipt(text []byte) error {
	var receipt struct {
		SHA256 string `json:"sha256"`
	}
	if json.Unmarshal(text, &receipt) != nil || len(receipt.SHA256) != 64 || u.src.regular() && u.sent.Load() != u.src.size {
		return nil
	}
	if sum := u.src.sha256(); !strings.EqualFold(receipt.SHA256, sum) {
		return fmt.Errorf("the server has stored a body with SHA-256 %s, and %s was sent", receipt.SHA256, sum)
	}
	return nil
}

// moved counts bytes that were handed to QUIC.
func (u *upload) moved(n int64) {
	u.sent.Add(n)
	u.session.Progress.Add(n)
}

// setSent puts the progress where the next body begins.
func (u *upload) setSent(offset int64) {
	u.session.Progress.Add(offset - u.sent.Swap(offset))
}
