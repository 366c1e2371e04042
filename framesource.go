package tailfin

import (
	"errors"
	"io"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A decoder is what h3frame offers to take one stream apart: into frames, or into
// the parts of a message.
type decoder[T any] interface {
	Next() (T, error)
	Buffer() *h3frame.Buffer
	PassedOver() uint64
}

// A source pulls what a decoder returns out of one receive stream: it feeds the
// decoder's buffer from the stream, and tells the decoder how the stream ended.
// One goroutine uses it at a time.
type source[T any] struct {
	recv  *recvStream
	dec   decoder[T]
	small []byte // to read into, if not nil; else the decoder's own memory, of some KiB

	wasted func(frames uint64) // told of frames that brought nothing; may be nil
	passed uint64              // of them, those it was told of
}

// frameSource is for control streams. Every connection has one that waits, mostly
// for nothing, and so it waits with little memory.
type frameSource = source[h3frame.Frame]

func newFrameSource(recv *recvStream, role h3frame.Role) *frameSource {
	return &frameSource{recv: recv, dec: h3frame.NewDecoder(role, h3frame.Limits{}), small: make([]byte, 64)}
}

// messageSource is for request streams.
type messageSource struct {
	source[h3frame.Event]
	msg *h3frame.MessageDecoder
}

func newMessageSource(recv *recvStream, msg *h3frame.MessageDecoder) *messageSource {
	s := new(messageSource)
	s.init(recv, msg)
	return s
}

// init makes s a source of what msg finds in recv.
func (s *messageSource) init(recv *recvStream, msg *h3frame.MessageDecoder) {
	*s = messageSource{source: source[h3frame.Event]{recv: recv, dec: msg}, msg: msg}
}

// next returns what comes next, and blocks for it if need be. Its error is what
// the decoder makes of the end of the stream. A read deadline that passes is
// returned as it is and ends nothing.
func (s *source[T]) next() (T, error) {
	for {
		v, err := s.dec.Next()
		if n := s.dec.PassedOver(); n != s.passed {
			if s.wasted != nil {
				s.wasted(n - s.passed)
			}
			s.passed = n
		}
		if !errors.Is(err, h3frame.ErrNeedMore) {
			return v, err
		}
		buf := s.dec.Buffer()
		switch err = s.read(buf); {
		case err == nil:
		case err == io.EOF: //nolint:errorlint // as quic-go returns it, and the most frequent
			buf.Finish(err)
		case isContextOrDeadline(err):
			return v, err
		case wasReset(err):
			buf.Reset(err)
		default:
			buf.Finish(err)
		}
	}
}

// wasReset tells the error of a stream that was reset from that of a close.
func wasReset(err error) bool {
	var reset *quic.StreamError
	return errors.As(err, &reset)
}

// ended tells that all of the stream has been taken apart: its FIN was read, and
// nothing is left in the buffer.
func (s *source[T]) ended() bool { return s.recv.finished.Load() && s.dec.Buffer().Len() == 0 }

// read moves bytes from the stream to the buffer.
func (s *source[T]) read(buf *h3frame.Buffer) error {
	if s.small != nil {
		n, err := s.recv.Read(s.small)
		_, _ = buf.Write(s.small[:n])
		return err
	}
	n, err := s.recv.Read(buf.Reserve())
	buf.Commit(n)
	return err
}

// release gives the buffer's memory back. The source must not be used again.
func (s *source[T]) release() { s.dec.Buffer().Release() }
