package h3frame

import (
	"errors"
	"io"
	"sync"

	"github.com/quic-go/qpack"
)

// A Field is one line of a field section. Names on the wire are lower case, and
// those of pseudo-header fields start with a colon (RFC 9114 §4.2, §4.3).
type Field struct {
	Name, Value string
}

// DefaultMaxFieldSectionSize bounds a field section if no bound is given, in bytes
// as RFC 9114 §4.2.2 counts.
const DefaultMaxFieldSectionSize = 64 << 10

// fieldOverhead is what each field adds to the size of its section besides the
// bytes of its name and value (RFC 9114 §4.2.2).
const fieldOverhead = 32

// Size returns the field's share of its section's size (RFC 9114 §4.2.2).
func (f Field) Size() int { return len(f.Name) + len(f.Value) + fieldOverhead }

// FieldSectionSize returns the size of a field section as RFC 9114 §4.2.2 counts
// it, for comparison with the Settings.MaxFieldSectionSize of its recipient.
func FieldSectionSize(fields []Field) uint64 {
	size := uint64(0)
	for _, f := range fields {
		size += uint64(f.Size())
	}
	return size
}

// The prefix of a field section is two integers that we always send as 0: the
// Required Insert Count, and after a sign bit the Delta Base (RFC 9204 §4.5.1).
const (
	sectionPrefixLen = 2
	baseSignBit      = 0x80
	deltaBaseMax     = 0x7f // all bits set: the integer goes on in further bytes
	moreBytesBit     = 0x80 // of those
	maxBaseBytes     = 9    // and so many at most: RFC 9204 §4.1.1 has up to 62 bits
)

// typicalFields is how many fields most sections have, to allocate for.
const typicalFields = 16

var errSectionPrefix = errors.New("section refers to a dynamic table")

// A sectionEncoder is a QPACK encoder and the slice that it appends to.
type sectionEncoder struct {
	qpack *qpack.Encoder
	buf   []byte
}

func (e *sectionEncoder) Write(p []byte) (int, error) {
	e.buf = append(e.buf, p...)
	return len(p), nil
}

var sectionEncoders = sync.Pool{New: func() any {
	e := &sectionEncoder{}
	e.qpack = qpack.NewEncoder(e)
	return e
}}

// AppendFieldSection appends the QPACK encoding of fields (RFC 9204 §4.5), which
// uses the static table and no dynamic one, so that it needs nothing of a stream
// but this one. The fields are written as they are: see RequestFields and
// ResponseFields for ones that are valid.
func AppendFieldSection(b []byte, fields []Field) []byte {
	if len(fields) == 0 {
		return append(b, 0, 0) // qpack writes the prefix with the first field only
	}
	e := sectionEncoders.Get().(*sectionEncoder)
	e.buf = b
	for _, f := range fields {
		_ = e.qpack.WriteField(qpack.HeaderField{Name: f.Name, Value: f.Value}) // fails only if Write does
	}
	_ = e.qpack.Close() // makes it write a prefix again; fails never
	b, e.buf = e.buf, nil
	sectionEncoders.Put(e)
	return b
}

// DecodeFieldSection decodes the payload of a HEADERS frame. Its size as RFC 9114
// §4.2.2 counts it, names and values and 32 bytes for each field, may be maxSize
// at most, or DefaultMaxFieldSectionSize if that is not positive: more is an
// H3_EXCESSIVE_LOAD, found before it is decoded on. What is no valid QPACK, or
// uses a dynamic table, of which we announce none, is a
// QPACK_DECOMPRESSION_FAILED (RFC 9204 §2.2). Both are a *FrameError.
func DecodeFieldSection(p []byte, maxSize int) ([]Field, error) {
	fields, err := appendDecoded(nil, p, maxSize)
	if err != nil {
		return nil, err
	}
	return fields, nil
}

// fieldSlices are for field sections that are made into something else at once.
var fieldSlices = sync.Pool{New: func() any {
	fields := make([]Field, 0, typicalFields)
	return &fields
}}

// giveBackFields keeps a slice of fieldSlices for others, unless it has become large.
func giveBackFields(fields *[]Field) {
	if cap(*fields) > 4*typicalFields {
		return
	}
	clear(*fields)
	*fields = (*fields)[:0]
	fieldSlices.Put(fields)
}

// appendDecoded appends what DecodeFieldSection returns; with an error what there is
// of it.
func appendDecoded(fields []Field, p []byte, maxSize int) ([]Field, error) {
	if maxSize <= 0 {
		maxSize = DefaultMaxFieldSectionSize
	}
	p, err := trimBase(p)
	if err != nil {
		return fields, decompressionError(err)
	}
	next := (&qpack.Decoder{}).Decode(p)
	for size := 0; ; {
		hf, err := next()
		if errors.Is(err, io.EOF) {
			return fields, nil
		}
		if err != nil {
			return fields, decompressionError(err)
		}
		f := Field{Name: hf.Name, Value: hf.Value}
		if size += f.Size(); size > maxSize {
			return fields, &FrameError{Code: ErrCodeExcessiveLoad, Type: FrameHeaders, Reason: "field section exceeds the limit"}
		}
		if fields == nil {
			fields = make([]Field, 0, min(len(p), typicalFields))
		}
		fields = append(fields, f)
	}
}

// trimBase checks the prefix of a section and returns the section with a prefix
// of two zeros. A section that needs no dynamic table may state any Base that is
// not negative (RFC 9204 §4.5.1.2), which qpack v0.6.0 takes for an error; a
// negative one, which it ignores, is invalid.
func trimBase(p []byte) ([]byte, error) {
	if len(p) < sectionPrefixLen {
		return nil, io.ErrUnexpectedEOF
	}
	if p[0] != 0 || p[1]&baseSignBit != 0 {
		return nil, errSectionPrefix
	}
	if p[1] == 0 {
		return p, nil
	}
	n := sectionPrefixLen
	if p[1] == deltaBaseMax {
		for more := true; more; n++ {
			if n == len(p) || n == sectionPrefixLen+maxBaseBytes {
				return nil, io.ErrUnexpectedEOF
			}
			more = p[n]&moreBytesBit != 0
		}
	}
	return append([]byte{0, 0}, p[n:]...), nil
}

// decompressionError is final for the connection (RFC 9204 §2.2). io.EOF and its
// like would be taken for the end of the stream, so they do not become the cause.
func decompressionError(err error) error {
	reason := err.Error()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		reason = "section ends within its prefix or a field"
	}
	return &FrameError{Code: ErrCodeQPACKDecompressionFailed, Type: FrameHeaders, Reason: reason}
}
