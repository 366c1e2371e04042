package tailfin

import (
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// writeBuffer is how much of a body is gathered into one DATA frame, in bytes.
const writeBuffer = 16 << 10

// A sendStream writes the frames of one message to a QUIC stream, gathering
// small writes. It is used by one goroutine at a time.
type sendStream struct {
	quic *quic.Stream
	head []byte // encoded frames that go before the gathered body
	body []byte // gathered DATA payload
}

// writeFields queues a HEADERS frame. It goes out with the next flush.
func (s *sendStream) writeFields(fields []h3frame.Field) error {
	if len(s.body) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.head = h3frame.AppendHeaders(s.head, h3frame.AppendFieldSection(nil, fields))
	return nil
}

// writeBody queues or sends body bytes. What exceeds the buffer goes out as
// one DATA frame, without being copied into it.
func (s *sendStream) writeBody(p []byte) error {
	if len(s.body)+len(p) <= writeBuffer {
		s.body = append(s.body, p...)
		return nil
	}
	s.head = h3frame.AppendFrameHeader(s.head, h3frame.FrameData, uint64(len(s.body)+len(p)))
	s.head = append(s.head, s.body...)
	s.body = s.body[:0]
	if _, err := s.quic.Write(s.head); err != nil {
		return err
	}
	s.head = s.head[:0]
	_, err := s.quic.Write(p)
	return err
}

// flush sends what is queued.
func (s *sendStream) flush() error {
	if len(s.body) > 0 {
		s.head = h3frame.AppendFrameHeader(s.head, h3frame.FrameData, uint64(len(s.body)))
		s.head = append(s.head, s.body...)
		s.body = s.body[:0]
	}
	if len(s.head) == 0 {
		return nil
	}
	_, err := s.quic.Write(s.head)
	s.head = s.head[:0]
	return err
}

// close sends what is queued, and the FIN.
func (s *sendStream) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.quic.Close()
}
