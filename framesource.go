package tailfin

import (
	"errors"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A frameSource pulls HTTP/3 frames out of one receive stream: it feeds the
// decoder's buffer from the stream, and tells the decoder how the stream
// ended. One goroutine uses it at a time.
type frameSource struct {
	recv *recvStream
	dec  *h3frame.Decoder
}

func newFrameSource(recv *recvStream, role h3frame.Role, limits h3frame.Limits) *frameSource {
	return &frameSource{recv: recv, dec: h3frame.NewDecoder(role, limits)}
}

// next returns the next frame, or piece of a DATA frame, and blocks for it if
// need be. Its error is what the decoder makes of the end of the stream. A
// read deadline that passes is returned as it is and ends nothing.
func (s *frameSource) next() (h3frame.Frame, error) {
	for {
		f, err := s.dec.Next()
		if !errors.Is(err, h3frame.ErrNeedMore) {
			return f, err
		}
		buf := s.dec.Buffer()
		n, err := s.recv.Read(buf.Reserve())
		buf.Commit(n)
		var reset *quic.StreamError
		switch {
		case err == nil:
		case isContextOrDeadline(err):
			return h3frame.Frame{}, err
		case errors.As(err, &reset):
			buf.Reset(err)
		default:
			buf.Finish(err)
		}
	}
}

// release gives the buffer's memory back. The source must not be used again.
func (s *frameSource) release() { s.dec.Buffer().Release() }
