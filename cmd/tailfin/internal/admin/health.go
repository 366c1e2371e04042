package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// Health is the answer of /healthz?verbose.
type Health struct {
	Status    string   `json:"status"` // "ok"
	Version   string   `json:"version"`
	Go        string   `json:"go"`
	PID       int      `json:"pid"`
	Uptime    float64  `json:"uptime_seconds"`
	Ready     bool     `json:"ready"`
	Reasons   []string `json:"reasons"` // why it is not ready
	Backends  []string `json:"backends"`
	Listening []string `json:"listening"`
}

// serveHealth says that the process runs. It asks nothing that could block.
func (a *Admin) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !r.URL.Query().Has("verbose") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, "ok")
		return
	}
	reasons := a.knownReasons()
	h := Health{
		Status: "ok", Version: a.opts.Version, Go: runtime.Version(), PID: os.Getpid(),
		Uptime: time.Since(a.started).Seconds(), Ready: len(reasons) == 0, Reasons: reasons,
		Backends: []string{}, Listening: []string{},
	}
	if a.opts.Conns != nil {
		for _, c := range a.opts.Conns() {
			h.Backends = append(h.Backends, c.Backend().String())
			h.Listening = append(h.Listening, c.LocalAddr().String())
		}
	}
	writeJSON(w, http.StatusOK, h)
}

// serveReady says whether uploads should be sent here.
func (a *Admin) serveReady(w http.ResponseWriter, r *http.Request) {
	reasons := a.reasons(func() error {
		if a.checker == nil {
			return nil
		}
		return a.checker.result(r.Context())
	})
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	if r.URL.Query().Has("verbose") {
		writeJSON(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if len(reasons) == 0 {
		_, _ = fmt.Fprintln(w, "ready")
		return
	}
	_, _ = fmt.Fprintf(w, "not ready: %s\n", strings.Join(reasons, "; "))
}

// reasons says why the daemon is not ready: nothing if it is.
func (a *Admin) reasons(sink func() error) []string {
	reasons := []string{}
	if a.opts.Ready != nil {
		if ready, reason := a.opts.Ready.State(); !ready {
			reasons = append(reasons, reason)
		}
	}
	if err := sink(); err != nil {
		reasons = append(reasons, "sink: "+clip(err.Error(), maxText))
	}
	return reasons
}

// knownReasons is reasons by the last check of the sink.
func (a *Admin) knownReasons() []string {
	return a.reasons(func() error {
		if a.checker == nil {
			return nil
		}
		return a.checker.known().err
	})
}

// CheckReady tells whether /readyz answers 200, and else why not: for a
// watchdog or a notification of systemd.
func (a *Admin) CheckReady(ctx context.Context) (bool, []string) {
	reasons := a.reasons(func() error {
		if a.checker == nil {
			return nil
		}
		return a.checker.result(ctx)
	})
	return len(reasons) == 0, reasons
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
