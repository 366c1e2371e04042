package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"

	"github.com/dunglas/httpsfv"

	"github.com/tailfin-quic/tailfin"
)

// The fields and codes of draft-ietf-httpbis-resumable-upload.
const (
	fieldComplete = "Upload-Complete"
	fieldOffset   = "Upload-Offset"
	fieldLength   = "Upload-Length"
	fieldLimit    = "Upload-Limit"
	fieldInterop  = "Upload-Draft-Interop-Version"

	interopVersion         = 8
	statusResumption       = 104 // Upload Resumption Supported
	mediaTypePartial       = "application/partial-upload"
	maxLocation            = 8 << 10
	maxOffset        int64 = 999_999_999_999_999 // of a structured field's Integer (RFC 9651 §3.3.1)
)

// An uploadResource is where a server gathers an upload.
type uploadResource struct {
	session  *Session
	location *url.URL
	limits   uploadLimits
}

// uploadLimits are those of Upload-Limit that bind a client; 0 is none.
type uploadLimits struct {
	maxSize   int64 // of the file in bytes
	maxAppend int64 // of the content of one request in bytes
}

// An uploadState is what HEAD says of an upload resource.
type uploadState struct {
	offset   int64
	complete bool // the server has answered it finally
}

// invite makes a request the beginning of an upload that can be resumed.
func invite(h http.Header, length int64) {
	h.Set(fieldInterop, strconv.Itoa(interopVersion))
	h.Set(fieldComplete, "?1")
	h.Set(fieldLength, strconv.FormatInt(length, 10))
}

// watch104 returns a context whose request calls on for each interim response of the
// draft. An error of on ends the request.
func watch104(ctx context.Context, on func(textproto.MIMEHeader) error) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code != statusResumption {
				return nil
			}
			if v, ok := integer(h.Get(fieldInterop)); h.Get(fieldLocation) != "" && (!ok || v != interopVersion) {
				return nil // another iteration of the draft
			}
			return on(h)
		},
	})
}

const fieldLocation = "Location"

// newResource takes the resource that a 104 or a 201 names. It must be of the same
// authority: the file is not sent where the user did not say.
func newResource(s *Session, base *url.URL, h textproto.MIMEHeader) (*uploadResource, error) {
	text := h.Get(fieldLocation)
	if len(text) > maxLocation {
		return nil, fmt.Errorf("the upload resource's Location has %d bytes", len(text))
	}
	loc, err := base.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the upload resource's Location: %w", err)
	}
	if loc.Scheme != base.Scheme || loc.Host != base.Host {
		return nil, fmt.Errorf("the upload resource is at %s, and not at %s", loc.Host, base.Host)
	}
	return &uploadResource{session: s, location: loc, limits: parseLimits(h.Get(fieldLimit))}, nil
}

var errNoOffset = errors.New("no Upload-Offset in the answer of the upload resource")

// state asks how much the server has. It must not be called while a request that
// sends to the resource is under way.
func (r *uploadResource) state(ctx context.Context, tr *tailfin.Transport) (uploadState, error) {
	resp, err := r.do(ctx, tr, http.MethodHead, nil, 0, nil)
	if err != nil {
		return uploadState{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return uploadState{}, statusError(resp)
	}
	if limit := resp.Header.Get(fieldLimit); limit != "" {
		r.limits = parseLimits(limit)
	}
	offset, ok := integer(resp.Header.Get(fieldOffset))
	if !ok {
		return uploadState{}, errNoOffset
	}
	return uploadState{offset: offset, complete: boolean(resp.Header.Get(fieldComplete))}, nil
}

// append sends body, of so many bytes, as what follows offset. last says that the
// upload is complete with it.
func (r *uploadResource) append(ctx context.Context, tr *tailfin.Transport, offset int64, body io.ReadCloser, length int64, last bool) (*http.Response, error) {
	h := http.Header{}
	h.Set("Content-Type", mediaTypePartial)
	h.Set(fieldOffset, strconv.FormatInt(offset, 10))
	h.Set(fieldComplete, "?0")
	if last {
		h.Set(fieldComplete, "?1")
	}
	return r.do(ctx, tr, http.MethodPatch, body, length, h)
}

// cancel lets the server forget the upload.
func (r *uploadResource) cancel(ctx context.Context, tr *tailfin.Transport) {
	resp, err := r.do(ctx, tr, http.MethodDelete, nil, 0, nil)
	if err == nil {
		_ = resp.Body.Close()
	}
}

func (r *uploadResource) do(ctx context.Context, tr *tailfin.Transport, method string, body io.ReadCloser, length int64, h http.Header) (*http.Response, error) {
	req, err := r.session.request(ctx, method, r.location, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(fieldInterop, strconv.Itoa(interopVersion))
	for name, values := range h {
		req.Header[name] = values
	}
	if body != nil {
		req.Body, req.ContentLength = body, length
		if length == 0 {
			_ = body.Close()
			req.Body = http.NoBody
		}
	}
	return tr.RoundTrip(req)
}

// integer reads an Item that is a non-negative Integer. Other values are as if
// the field were not there, as the draft says.
func integer(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	item, err := httpsfv.UnmarshalItem([]string{text})
	if err != nil {
		return 0, false
	}
	n, ok := item.Value.(int64)
	return n, ok && n >= 0 && n <= maxOffset
}

func boolean(text string) bool {
	if text == "" {
		return false
	}
	item, err := httpsfv.UnmarshalItem([]string{text})
	if err != nil {
		return false
	}
	b, _ := item.Value.(bool)
	return b
}

// parseLimits reads Upload-Limit. A field that does not parse, or has a member of
// the wrong type, is ignored whole.
func parseLimits(text string) uploadLimits {
	dict, err := httpsfv.UnmarshalDictionary([]string{text})
	if text == "" || err != nil {
		return uploadLimits{}
	}
	var limits uploadLimits
	for key, to := range map[string]*int64{"max-size": &limits.maxSize, "max-append-size": &limits.maxAppend} {
		member, ok := dict.Get(key)
		if !ok {
			continue
		}
		item, ok := member.(httpsfv.Item)
		n, isInt := item.Value.(int64)
		if !ok || !isInt || n < 0 {
			return uploadLimits{}
		}
		*to = n
	}
	return limits
}
