package receiver

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/accesslog"
)

// MaxPattern bounds N of GET /bytes/N.
const MaxPattern = 64 << 30

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	if _, err := io.Copy(w, r.Body); err != nil {
		accesslog.Fail(r.Context(), err)
	}
}

// pattern sends n bytes that a client can check without having them.
func pattern(w http.ResponseWriter, r *http.Request, text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > MaxPattern {
		fail(w, r, http.StatusBadRequest, fmt.Errorf("/bytes/%.40q: give a number of bytes from 0 to %d", text, int64(MaxPattern)))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	if r.Method == http.MethodHead {
		return
	}
	buf := make([]byte, min(n, 64<<10))
	for off := int64(0); off < n; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), n-off)]
		FillPattern(buf, off)
		if _, err := w.Write(buf); err != nil {
			accesslog.Fail(r.Context(), err)
			return
		}
	}
}

// FillPattern sets p to the bytes of GET /bytes/N from offset on.
func FillPattern(p []byte, offset int64) {
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at*7 + at>>8)
	}
}
