package sink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// Defaults of ResumeLimits.
const (
	defaultMaxAge     = 24 * time.Hour
	defaultMaxUploads = 1000
	defaultMaxBytes   = 64 << 30
)

// doneAge is how long an upload that is complete is remembered, for a client that
// lost the answer, and maxDone how many are.
const (
	doneAge = 10 * time.Minute
	maxDone = 4096
)

// janitorEvery is how often what has expired is looked for.
const janitorEvery = time.Minute

// partials are the unfinished uploads of a Dir.
type partials struct {
	d       *Dir
	dir     *folder
	limits  ResumeLimits
	expired prometheus.Counter

	mu      sync.Mutex
	writers map[string]*writer // who has which upload
	held    map[string]int64   // unfinished uploads and their bytes, as far as it is known
	bytes   int64              // sum of held
	done    []string           // complete ones, the oldest first

	stop    context.CancelFunc
	stopped chan struct{}
}

func openPartials(d *Dir, opts Options) (*partials, error) {
	below, err := openBelow(d.top.File, partialsFolder)
	if err != nil {
		return nil, err
	}
	dir := newFolder(below)
	p := &partials{
		d: d, dir: dir, limits: opts.Resume,
		writers: map[string]*writer{}, held: map[string]int64{}, stopped: make(chan struct{}),
	}
	if p.limits.MaxAge <= 0 {
		p.limits.MaxAge = defaultMaxAge
	}
	if p.limits.MaxUploads <= 0 {
		p.limits.MaxUploads = defaultMaxUploads
	}
	if p.limits.MaxBytes <= 0 {
		p.limits.MaxBytes = defaultMaxBytes
	}
	p.register(opts.Registerer)
	// The folder itself must be there after a crash, for what is durable in it.
	if err := syncFolder(d.top.File); err != nil {
		_ = dir.Close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.sweep(ctx)
	go func() {
		defer close(p.stopped)
		tick := time.NewTicker(min(janitorEvery, max(p.limits.MaxAge/2, time.Millisecond)))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.sweep(ctx)
			}
		}
	}()
	return p, nil
}

func (p *partials) register(reg prometheus.Registerer) {
	p.expired = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tailfin_sink_resumable_expired_total", Help: "Unfinished uploads that were removed since their client did not go on in time.",
	})
	if reg == nil {
		return
	}
	gauge := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return float64(value())
		})
	}
	reg.MustRegister(p.expired,
		gauge("tailfin_sink_resumable_uploads", "Unfinished uploads that are kept, for their clients to go on.", func() int64 { return int64(len(p.held)) }),
		gauge("tailfin_sink_resumable_bytes", "Bytes of unfinished uploads that are kept.", func() int64 { return p.bytes }))
}

func (p *partials) close() {
	p.stop()
	<-p.stopped
}

// uploadIDBytes is the length of an ID before it is written in hexadecimal:
// 128 bits, since who has an ID has the upload.
const uploadIDBytes = 16

func newUploadID() string {
	var b [uploadIDBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// isUploadID tells what may be a file's name from what must not be.
func isUploadID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == uploadIDBytes && strings.ToLower(id) == id
}

// admit makes room for one more upload.
func (p *partials) admit(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) >= p.limits.MaxUploads || p.bytes >= p.limits.MaxBytes {
		return ErrTooMany
	}
	p.held[id] = 0
	return nil
}

// account says that an upload has so many bytes, or is to have.
func (p *partials) account(id string, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	more := size - p.held[id]
	if more > 0 && p.bytes+more > p.limits.MaxBytes {
		return ErrTooMany
	}
	p.held[id] = size
	p.bytes += more
	return nil
}

func (p *partials) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= p.held[id]
	delete(p.held, id)
}

// complete remembers an upload that is.
func (p *partials) complete(id string) {
	p.forget(id)
	p.mu.Lock()
	p.done = append(p.done, id)
	var oldest string
	if len(p.done) > maxDone {
		oldest, p.done = p.done[0], p.done[1:]
	}
	p.mu.Unlock()
	if oldest != "" {
		_ = removeAt(p.dir.File, oldest+metaSuffix)
	}
}

// sweep removes what has expired and counts what is there, as a second process on
// the same folder changes it too.
func (p *partials) sweep(ctx context.Context) {
	parts := map[string]int64{}
	err := eachFile(p.dir.File, func(name string, st *unix.Stat_t) {
		suffix := filepath.Ext(name)
		id, age := strings.TrimSuffix(name, suffix), age(st)
		switch {
		case ctx.Err() != nil || !isUploadID(id):
		case suffix == partSuffix && (age <= p.limits.MaxAge || !p.expire(ctx, id)):
			parts[id] = st.Size
		case suffix == metaSuffix && age > doneAge:
			p.expireDone(ctx, id)
		case (suffix == newSuffix || suffix == wantedSuffix) && age > staleAfter:
			_ = removeAt(p.dir.File, name)
		}
	})
	if err != nil {
		p.d.log.Warn("cannot look for expired uploads", "sink", p.d.url(), "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.held {
		if _, there := parts[id]; !there && p.writers[id] == nil {
			p.bytes -= p.held[id]
			delete(p.held, id)
		}
	}
	for id, size := range parts {
		if p.writers[id] == nil {
			p.bytes += size - p.held[id]
			p.held[id] = size
		}
	}
}

// expire removes an unfinished upload, unless someone is at it.
func (p *partials) expire(ctx context.Context, id string) bool {
	c, err := p.claim(ctx, id, nil, false)
	if errors.Is(err, ErrNoUpload) {
		// Its ID.json is missing or unreadable: a crash came while it was created.
		_ = removeAt(p.dir.File, id+partSuffix)
		_ = removeAt(p.dir.File, id+metaSuffix)
		p.forget(id)
		return true
	}
	if err != nil {
		return false
	}
	defer c.release()
	if c.file == nil || time.Since(c.used) <= p.limits.MaxAge {
		return false
	}
	if err := c.remove(); err != nil {
		p.d.log.Warn("cannot remove an expired upload", "sink", p.d.url(), "name", c.meta.Name, "err", err)
		return false
	}
	p.expired.Inc()
	p.d.log.Info("removed an upload that its client did not finish", "sink", p.d.url(), "name", c.meta.Name, "bytes", c.size)
	return true
}

// expireDone forgets an upload that is complete.
func (p *partials) expireDone(ctx context.Context, id string) {
	c, err := p.claim(ctx, id, nil, false)
	if err != nil {
		return
	}
	defer c.release()
	if c.file == nil {
		_ = removeAt(p.dir.File, id+metaSuffix)
	}
}
