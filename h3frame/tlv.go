package h3frame

import "io"

// A tlvReader takes units of type, length and payload off a Buffer: frames
// (RFC 9114 §7.1) and capsules (RFC 9297 §3.2), which are laid out alike. It
// knows where a unit begins and ends, and nothing of what it means.
type tlvReader struct {
	buf     Buffer
	scratch []byte // a payload that spans chunks, at most ChunkSize
	err     error  // sticky

	within bool   // a header was read, and left bytes of its payload were not
	typ    uint64 // of that unit
	length uint64
	left   uint64
}

// Buffer returns the buffer to feed.
func (r *tlvReader) Buffer() *Buffer { return &r.buf }

// header reads the header of a unit, all or nothing, so that one cut at any byte
// is looked at again from its start: 16 bytes at most.
func (r *tlvReader) header() bool {
	p := r.buf.cur
	if len(p) >= MaxFrameHeaderLen {
		typ, n := parseVarint8(p)
		length, m := parseVarint8(p[n:])
		r.buf.cur = p[n+m:]
		r.buf.unread -= n + m
		r.within, r.typ, r.length, r.left = true, typ, length, length
		return true
	}
	return r.headerAcross()
}

// headerAcross is header for one that the first chunk may not have all of.
func (r *tlvReader) headerAcross() bool {
	var scratch [MaxFrameHeaderLen]byte
	p := r.buf.peek(scratch[:], min(r.buf.unread, MaxFrameHeaderLen))
	typ, n := ParseVarint(p)
	if n == 0 {
		return false
	}
	length, m := ParseVarint(p[n:])
	if m == 0 {
		return false
	}
	r.buf.skip(n + m)
	r.within, r.typ, r.length, r.left = true, typ, length, length
	return true
}

// piece returns the part of the payload that the first chunk has, by reference.
func (r *tlvReader) piece() []byte {
	p := r.buf.cur
	n := int(min(r.left, uint64(len(p))))
	p = p[:n:n] // no capacity, lest an append by the caller write over what follows
	r.buf.cur = r.buf.cur[n:]
	r.buf.unread -= n
	r.left -= uint64(n)
	r.within = r.left > 0
	return p
}

// whole returns the payload once all of it is buffered, copied only if it spans
// chunks. Its length must have been held against a limit.
func (r *tlvReader) whole() ([]byte, bool) {
	if uint64(r.buf.unread) < r.length {
		return nil, false
	}
	n := int(r.length)
	scratch := r.scratch
	if len(r.buf.cur) < n && cap(scratch) < n {
		scratch = make([]byte, n)
		if n <= ChunkSize {
			r.scratch = scratch // a long one is rare, and would be held for the life of the stream
		}
	}
	p := r.buf.peek(scratch, n)
	r.buf.skip(n)
	r.within, r.left = false, 0
	return p[:n:n], true
}

// pass skips what is buffered of the payload.
func (r *tlvReader) pass() {
	n := min(r.left, uint64(r.buf.unread))
	r.buf.skip(int(n))
	r.left -= n
	r.within = r.left > 0
}

// cut tells that the buffered bytes, which are used up, end within a unit.
func (r *tlvReader) cut() bool { return r.within || r.buf.unread > 0 }

// truncation describes a unit that a close cut.
func (r *tlvReader) truncation(end error) *TruncatedError {
	if !r.within {
		return &TruncatedError{Header: true, Got: uint64(r.buf.unread), Err: end}
	}
	// What is unread belongs to a payload that is returned only whole.
	got := r.length - r.left + uint64(r.buf.unread)
	return &TruncatedError{Type: FrameType(r.typ), Got: got, Want: r.length, Err: end}
}

// discarded returns the error of a stream whose data was dropped.
func (r *tlvReader) discarded() error {
	if r.buf.end == nil || isEOF(r.buf.end) {
		return ErrReleased // to say io.EOF here would call what was discarded complete
	}
	return r.buf.end
}

// fail makes err the answer to this and every later call.
func (r *tlvReader) fail(err error) error {
	r.err = err
	r.scratch = nil
	r.buf.discard()
	return err
}

// isEOF tells a FIN from a close whose error merely wraps io.EOF, as a broken
// network's may.
func isEOF(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}
