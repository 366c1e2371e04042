package tailfin

import (
	"errors"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// writeBuffer is how much of a body is gathered into one DATA frame, in bytes.
const writeBuffer = 16 << 10

// errFrameCut meets whoever ends a message within a DATA frame.
var errFrameCut = errors.New("tailfin: a write deadline cut a DATA frame short")

// A sendStream writes the frames of one message to a QUIC stream, gathering
// small writes. It is used by one goroutine at a time.
//
// A write that fails at a deadline leaves it usable: what was not sent stays
// queued, and the bytes that come next continue the DATA frame that was cut.
type sendStream struct {
	quic *quic.Stream
	head []byte // encoded frames that go before the gathered body
	body []byte // gathered DATA payload
	owed int    // payload bytes that a DATA frame in head or sent has announced and that follow it
}

// writeFields queues a HEADERS frame. It goes out with the next flush.
func (s *sendStream) writeFields(fields []h3frame.Field) error {
	if len(s.body) > 0 || s.owed > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.owed > 0 {
		return errFrameCut
	}
	s.head = h3frame.AppendHeaders(s.head, h3frame.AppendFieldSection(nil, fields))
	return nil
}

// writeBody is write for a caller that does not go on after an error.
func (s *sendStream) writeBody(p []byte) error {
	_, err := s.write(p)
	return err
}

// write queues or sends body bytes, and says how many it took. What exceeds the
// buffer goes out as one DATA frame, without being copied into it.
func (s *sendStream) write(p []byte) (int, error) {
	taken := 0
	for len(p) > 0 {
		if s.owed == 0 {
			if len(s.body)+len(p) <= writeBuffer {
				s.body = append(s.body, p...)
				return taken + len(p), nil
			}
			s.head = h3frame.AppendFrameHeader(s.head, h3frame.FrameData, uint64(len(s.body)+len(p)))
			s.head = append(s.head, s.body...)
			s.body = s.body[:0]
			s.owed = len(p)
		}
		if err := s.writeHead(); err != nil {
			return taken, err
		}
		n, err := s.quic.Write(p[:min(len(p), s.owed)])
		s.owed -= n
		taken += n
		if err != nil {
			return taken, err
		}
		p = p[n:]
	}
	return taken, nil
}

// writeHead sends what is encoded, and keeps what a deadline left of it.
func (s *sendStream) writeHead() error {
	if len(s.head) == 0 {
		return nil
	}
	n, err := s.quic.Write(s.head)
	s.head = s.head[:copy(s.head, s.head[n:])]
	return err
}

// flush sends what is queued.
func (s *sendStream) flush() error {
	if len(s.body) > 0 {
		s.head = h3frame.AppendFrameHeader(s.head, h3frame.FrameData, uint64(len(s.body)))
		s.head = append(s.head, s.body...)
		s.body = s.body[:0]
	}
	return s.writeHead()
}

// close sends what is queued, and the FIN.
func (s *sendStream) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.owed > 0 {
		return errFrameCut // a FIN here would break the protocol (RFC 9114 §7.1)
	}
	return s.quic.Close()
}
