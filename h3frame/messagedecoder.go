package h3frame

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// An EventKind says what an Event is.
type EventKind int

const (
	// EventHead is the header section of a request, or the final one of a response.
	EventHead EventKind = iota + 1
	// EventInterim is the header section of a 1xx response; the head comes later.
	EventInterim
	// EventBody is the next piece of the content.
	EventBody
	// EventTrailer is the trailer section. Only the end follows.
	EventTrailer
	// EventPush is the promise of a push (RFC 9114 §4.6), anywhere before the end.
	EventPush
)

// An Event is what a MessageDecoder returns: one part of a message.
type Event struct {
	Kind     EventKind
	Request  *RequestHead  // EventHead of a request, EventPush
	Response *ResponseHead // EventHead and EventInterim of a response
	// Body is a piece of the content of EventBody, never empty. It points into the
	// decoder's memory and is valid until the next call to Next or Buffer.Release.
	Body    []byte
	Trailer http.Header // EventTrailer
	PushID  uint64      // EventPush
}

// noLength is the Content-Length of a message that states none.
const noLength = -1

// A MessageDecoder pulls one HTTP message out of a stream (RFC 9114 §4.1): its
// header sections, its content and its trailer section, each checked, and the end
// after the last of them. It is a Decoder together with what field sections mean.
type MessageDecoder struct {
	dec    Decoder
	method string // of the request; of a response's, which decides whether it has content
	err    error  // sticky
	want   int64  // Content-Length, noLength if there is none
	got    int64  // bytes of content so far
	excess bool   // more content has come than want

	request RequestHead // what EventHead of a request points to
}

// NewRequestDecoder returns a decoder for a request as a server reads it.
func NewRequestDecoder(limits Limits) *MessageDecoder {
	m := new(MessageDecoder)
	m.InitRequest(limits)
	return m
}

// InitRequest is NewRequestDecoder in memory of the caller's, who may have the decoder
// as part of something larger. What was in it before is lost.
func (m *MessageDecoder) InitRequest(limits Limits) {
	*m = MessageDecoder{dec: *NewDecoder(RequestStream, limits), want: noLength}
}

// NewResponseDecoder returns a decoder for the response to a request with the
// given method, on a ResponseStream or a PushStream.
func NewResponseDecoder(role Role, method string, limits Limits) *MessageDecoder {
	return &MessageDecoder{dec: *NewDecoder(role, limits), method: method, want: noLength}
}

// Buffer returns the buffer to feed.
func (m *MessageDecoder) Buffer() *Buffer { return m.dec.Buffer() }

// AllowPushes is Decoder.AllowPushes.
func (m *MessageDecoder) AllowPushes(n uint64) { m.dec.AllowPushes(n) }

// PassedOver is Decoder.PassedOver.
func (m *MessageDecoder) PassedOver() uint64 { return m.dec.PassedOver() }

// HeadSeen tells that EventHead has been returned.
func (m *MessageDecoder) HeadSeen() bool { return m.dec.HeadersSeen() }

// ContentLength returns the bytes of content that the head announces, and -1 if
// it says nothing of it. It is 0 for a response that has none whatever its head
// says, as to HEAD (RFC 9114 §4.1.2).
func (m *MessageDecoder) ContentLength() int64 { return m.want }

// Received returns the bytes of content that Next has returned.
func (m *MessageDecoder) Received() int64 { return m.got }

// Next returns the next part of the message. Its errors are those of Decoder.Next,
// and further
//
//   - *FrameError with H3_MESSAGE_ERROR for a malformed message (RFC 9114 §4.1.2).
//     Content that is not as long as Content-Length says is such a message: where it
//     is longer it is refused at the first byte too many, behind all that came
//     before it, where it is shorter at the FIN.
//   - *FrameError with H3_REQUEST_INCOMPLETE for a request that ends before its head.
//
// io.EOF means that the message is whole. So is one whose Content-Length is met
// when the connection closes at the end of a frame without a FIN: nothing that
// matters is missing, and the close shows on the connection.
func (m *MessageDecoder) Next() (Event, error) {
	if m.err != nil {
		return Event{}, m.err
	}
	if m.excess {
		return Event{}, m.fail(m.tooLong())
	}
	f, err := m.dec.Next()
	if err == ErrNeedMore { //nolint:errorlint // a sentinel of this package, never wrapped
		return Event{}, err
	}
	if err != nil {
		return Event{}, m.fail(m.ending(err))
	}
	if f.Type == FrameData {
		return m.content(f.Payload)
	}
	ev, err := m.section(f)
	if err != nil {
		return Event{}, m.fail(m.dec.withCause(err))
	}
	return ev, nil
}

// content returns a piece of the content, up to the Content-Length.
func (m *MessageDecoder) content(p []byte) (Event, error) {
	if left := m.want - m.got; m.want >= 0 && int64(len(p)) > left {
		m.excess = true
		if left == 0 {
			return Event{}, m.fail(m.tooLong())
		}
		p = p[:left]
	}
	m.got += int64(len(p))
	return Event{Kind: EventBody, Body: p}, nil
}

func (m *MessageDecoder) tooLong() error {
	return m.dec.withCause(malformed("content of more than the %d bytes of its Content-Length", m.want))
}

// section decodes the field section of a HEADERS or PUSH_PROMISE frame.
func (m *MessageDecoder) section(f Frame) (Event, error) {
	ev, section := Event{}, f.Payload
	if f.Type == FramePushPromise {
		var err error
		if ev.PushID, section, err = ParsePushPromise(f.Payload); err != nil {
			return Event{}, err
		}
	}
	// The strings of the fields are kept, the slice is not.
	lent, _ := fieldSlices.Get().(*[]Field)
	defer giveBackFields(lent)
	fields, err := appendDecoded((*lent)[:0], section, m.dec.limits.MaxFieldSectionSize)
	if *lent = fields; err != nil {
		return Event{}, err
	}
	switch {
	case f.Type == FramePushPromise:
		ev.Kind = EventPush
		ev.Request = new(RequestHead)
		*ev.Request, err = ParseRequestFields(fields)
	case !m.dec.isHead: // or has been: the frame after the head is the trailer section
		ev.Kind = EventTrailer
		ev.Trailer, err = ParseTrailerFields(fields)
	case m.dec.role == RequestStream:
		ev.Kind = EventHead
		if m.request, err = ParseRequestFields(fields); err == nil {
			ev.Request = &m.request
			err = m.requestHead(ev.Request)
		}
	default:
		ev.Kind = EventHead
		var head ResponseHead
		if head, err = ParseResponseFields(fields); err == nil {
			ev.Response = &head
			if head.Status < statusFinal {
				ev.Kind = EventInterim
				m.dec.Interim()
			} else {
				err = m.responseHead(&head)
			}
		}
	}
	return ev, err
}

// requestHead notes what the head of a request says of what comes after it.
func (m *MessageDecoder) requestHead(head *RequestHead) error {
	m.method = head.Method
	if head.Method == http.MethodConnect {
		m.dec.Tunnel()
		return nil
	}
	return m.setLength(head.Header)
}

// responseHead does so for a final response (RFC 9110 §6.4.1, §9.3.6, §15).
func (m *MessageDecoder) responseHead(head *ResponseHead) error {
	switch {
	case m.method == http.MethodConnect && head.Status < statusRedirect:
		m.dec.Tunnel()
		return nil
	case m.method == http.MethodHead, head.Status == http.StatusNoContent, head.Status == http.StatusNotModified:
		m.want = 0
		return nil
	}
	return m.setLength(head.Header)
}

// setLength takes the length from a header whose Content-Length was checked.
func (m *MessageDecoder) setLength(header http.Header) error {
	v := header["Content-Length"]
	if len(v) == 0 {
		return nil
	}
	n, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil {
		return malformed("Content-Length %q", v[0])
	}
	m.want = n
	return nil
}

// ending turns the end of the stream into the end of the message.
func (m *MessageDecoder) ending(err error) error {
	switch {
	case !isEOF(err):
		if m.met(err) {
			return io.EOF
		}
		return err
	case m.dec.role == RequestStream && !m.HeadSeen():
		return &FrameError{Code: ErrCodeRequestIncomplete, Type: FrameHeaders, Reason: "stream ends before a header section"}
	case !m.HeadSeen():
		return malformed("stream ends before a final header section")
	case m.want >= 0 && m.got < m.want:
		err := malformed("content of %d bytes, its Content-Length is %d", m.got, m.want)
		err.Cause = io.ErrUnexpectedEOF
		return err
	}
	return err
}

// met tells that the message is whole although its stream ended with err and not
// with a FIN: the connection was closed, all of the content was there, and no
// frame that would have been part of the message was cut.
func (m *MessageDecoder) met(err error) bool {
	if m.dec.buf.reset || m.dec.buf.released || m.want < 0 || m.got != m.want || !m.HeadSeen() {
		return false
	}
	switch err := err.(type) { //nolint:errorlint // made by this package, never wrapped
	case *FrameError:
		return false
	case *TruncatedError:
		return !err.Header && err.Type != FrameData && err.Type != FrameHeaders
	}
	return true
}

// fail makes err the answer to this and every later call.
func (m *MessageDecoder) fail(err error) error {
	m.err = err
	m.dec.buf.discard()
	return err
}

// Malformed returns a violation that a message's user finds in it: an
// H3_MESSAGE_ERROR, which ends the stream.
func Malformed(format string, args ...any) *FrameError {
	return malformed("%s", fmt.Sprintf(format, args...))
}
