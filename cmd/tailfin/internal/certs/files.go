package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// files are certificates from pairs of PEM files.
type files struct {
	log     *slog.Logger
	metrics *metrics
	table   atomic.Pointer[table]

	mu    sync.Mutex // held through a look; guards what the pairs hold
	pairs []*pair
}

// A pair is a chain and its key, each in a file. Both are replaced together.
type pair struct {
	certFile, keyFile string
	cert              *tls.Certificate
	seen              sighting
}

// A sighting is what looks at files have found so far: content IDs, or the text
// of an error.
type sighting struct {
	taken   string // what is served
	pending string // what the last look found, if that was new
	refused string // what was refused last, so that it is said once
}

// A verdict is what to do with what a look found.
type verdict int

const (
	unchanged verdict = iota // it is what is served
	wait                     // it may still be being written
	examine                  // it may be taken
)

// judge says what to do with found.
func (s *sighting) judge(found string, asked bool) verdict {
	switch {
	case found == s.taken:
		s.pending = ""
		return unchanged
	case !asked && found != s.pending:
		s.pending = found
		return wait
	}
	return examine
}

// openFiles loads every pair.
func openFiles(opts Options, m *metrics) (*files, error) {
	f := &files{log: opts.Log, metrics: m}
	for i, certFile := range opts.Certs {
		p := &pair{certFile: certFile, keyFile: opts.Keys[i]}
		content, err := readPair(p.certFile, p.keyFile)
		if err != nil {
			return nil, err
		}
		if p.cert, err = parsePair(p.certFile, p.keyFile, content); err != nil {
			return nil, err
		}
		p.seen.taken = content.id
		if err := outsideValidity(p.cert.Leaf, time.Now()); err != nil {
			f.log.Warn("clients will refuse this certificate; replace the file, it is taken while the server runs", "file", p.certFile, "err", err)
		}
		f.pairs = append(f.pairs, p)
	}
	f.publish()
	return f, nil
}

// publish serves what the pairs hold now.
func (f *files) publish() {
	certs := make([]*tls.Certificate, len(f.pairs))
	for i, p := range f.pairs {
		certs[i] = p.cert
	}
	f.table.Store(newTable(certs))
}

func (f *files) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.table.Load().choose(hello), nil
}

func (f *files) reload(context.Context) error { return f.look(true) }

func (f *files) close() {}

func (f *files) look(asked bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	changed := false
	for _, p := range f.pairs {
		taken, err := f.lookAt(p, asked)
		changed = changed || taken
		errs = append(errs, err)
	}
	if changed {
		f.publish()
	}
	return errors.Join(errs...)
}

// lookAt takes what is new in the files of p, if it is sound.
func (f *files) lookAt(p *pair, asked bool) (taken bool, err error) {
	content, err := readPair(p.certFile, p.keyFile)
	found := content.id
	if err != nil {
		found = err.Error()
	}
	switch p.seen.judge(found, asked) {
	case wait:
		return false, nil
	case unchanged:
		if p.seen.refused != "" {
			f.log.Info("the files have the certificate again that is served", "file", p.certFile)
			p.seen.refused = ""
		}
		if asked {
			f.metrics.reload(resultUnchanged)
		}
		return false, nil
	}
	var cert *tls.Certificate
	if err == nil {
		cert, err = parsePair(p.certFile, p.keyFile, content)
	}
	if err == nil {
		err = p.refuses(cert, time.Now())
	}
	if err != nil {
		if asked || found != p.seen.refused {
			f.log.Error("new certificate refused; the old one is still served", "file", p.certFile, "expires", p.cert.Leaf.NotAfter, "err", err)
			f.metrics.reload(resultRefused)
		}
		p.seen.refused = found
		return false, err
	}
	p.cert, p.seen = cert, sighting{taken: found}
	info := describe(cert.Leaf, p.certFile)
	f.log.Info("certificate replaced", "file", p.certFile, "names", info.Names, "expires", info.NotAfter, "sha256", info.SHA256)
	if err := outsideValidity(cert.Leaf, time.Now()); err != nil {
		f.log.Warn("clients will refuse this certificate", "file", p.certFile, "err", err)
	}
	f.metrics.reload(resultTaken)
	return true, nil
}

// refuses says why cert may not replace the one of p: it is not valid now, and
// that one is. It is examined again at every look, so that one that becomes
// valid later is taken then.
func (p *pair) refuses(cert *tls.Certificate, now time.Time) error {
	err := outsideValidity(cert.Leaf, now)
	if err == nil || outsideValidity(p.cert.Leaf, now) != nil {
		return nil
	}
	return &OptionError{"cert", p.certFile, err, "give one that is valid now, and check the clock of this machine"}
}

func (f *files) info() []Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	infos := make([]Info, len(f.pairs))
	for i, p := range f.pairs {
		infos[i] = describe(p.cert.Leaf, p.certFile)
	}
	return infos
}
