package tailfin

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// wantsGzip tells a request that gzip may be asked for without its sender's
// knowledge, by the rules of net/http: it has no mind of its own about
// encodings, is not for a range of bytes, which would be one of the compressed
// form, and is no HEAD or CONNECT.
func wantsGzip(req *http.Request) bool {
	return req.Header.Get("Accept-Encoding") == "" && req.Header.Get("Range") == "" &&
		req.Method != http.MethodHead && req.Method != http.MethodConnect
}

// gunzip undoes gzip in resp, if the peer has used it.
func gunzip(resp *http.Response) {
	if !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") || resp.ContentLength == 0 {
		return
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	resp.Uncompressed = true
	resp.Body = &gzipBody{body: &endKeeper{ReadCloser: resp.Body}}
}

// A gzipBody reads a compressed body decompressed. Where the body ends with an
// error it returns that error, not what gzip makes of the end.
type gzipBody struct {
	body *endKeeper

	mu  sync.Mutex // held during a Read
	zr  *gzip.Reader
	err error // sticky
}

func (b *gzipBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.zr == nil {
		zr, err := gzip.NewReader(b.body)
		if err != nil {
			return 0, b.fail(err)
		}
		b.zr = zr
	}
	n, err := b.zr.Read(p)
	if err != nil {
		err = b.fail(err)
	}
	return n, err
}

func (b *gzipBody) fail(err error) error {
	b.err = err
	if end := b.body.end; end != nil && !errors.Is(end, io.EOF) {
		b.err = end
	}
	return b.err
}

// Close may be called during a Read, which it ends.
func (b *gzipBody) Close() error { return b.body.Close() }

// An endKeeper remembers the error that its reader ended with.
type endKeeper struct {
	io.ReadCloser
	end error
}

func (k *endKeeper) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if err != nil {
		k.end = err
	}
	return n, err
}
