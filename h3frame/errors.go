package h3frame

import (
	"errors"
	"fmt"
	"net"
)

// An ErrorCode is an HTTP/3 or QPACK application error code
// (https://www.rfc-editor.org/rfc/rfc9114#section-8.1).
type ErrorCode uint64

// The codes of RFC 9114 §8.1, RFC 9204 §6 and RFC 9297 §5.2.
const (
	ErrCodeDatagram ErrorCode = 0x33

	ErrCodeNoError              ErrorCode = 0x100
	ErrCodeGeneralProtocol      ErrorCode = 0x101
	ErrCodeInternal             ErrorCode = 0x102
	ErrCodeStreamCreation       ErrorCode = 0x103
	ErrCodeClosedCriticalStream ErrorCode = 0x104
	ErrCodeFrameUnexpected      ErrorCode = 0x105
	ErrCodeFrame                ErrorCode = 0x106
	ErrCodeExcessiveLoad        ErrorCode = 0x107
	ErrCodeID                   ErrorCode = 0x108
	ErrCodeSettings             ErrorCode = 0x109
	ErrCodeMissingSettings      ErrorCode = 0x10a
	ErrCodeRequestRejected      ErrorCode = 0x10b
	ErrCodeRequestCancelled     ErrorCode = 0x10c
	ErrCodeRequestIncomplete    ErrorCode = 0x10d
	ErrCodeMessage              ErrorCode = 0x10e
	ErrCodeConnect              ErrorCode = 0x10f
	ErrCodeVersionFallback      ErrorCode = 0x110

	ErrCodeQPACKDecompressionFailed ErrorCode = 0x200
	ErrCodeQPACKEncoderStream       ErrorCode = 0x201
	ErrCodeQPACKDecoderStream       ErrorCode = 0x202
)

var errorCodeNames = map[ErrorCode]string{
	ErrCodeDatagram:                 "H3_DATAGRAM_ERROR",
	ErrCodeNoError:                  "H3_NO_ERROR",
	ErrCodeGeneralProtocol:          "H3_GENERAL_PROTOCOL_ERROR",
	ErrCodeInternal:                 "H3_INTERNAL_ERROR",
	ErrCodeStreamCreation:           "H3_STREAM_CREATION_ERROR",
	ErrCodeClosedCriticalStream:     "H3_CLOSED_CRITICAL_STREAM",
	ErrCodeFrameUnexpected:          "H3_FRAME_UNEXPECTED",
	ErrCodeFrame:                    "H3_FRAME_ERROR",
	ErrCodeExcessiveLoad:            "H3_EXCESSIVE_LOAD",
	ErrCodeID:                       "H3_ID_ERROR",
	ErrCodeSettings:                 "H3_SETTINGS_ERROR",
	ErrCodeMissingSettings:          "H3_MISSING_SETTINGS",
	ErrCodeRequestRejected:          "H3_REQUEST_REJECTED",
	ErrCodeRequestCancelled:         "H3_REQUEST_CANCELLED",
	ErrCodeRequestIncomplete:        "H3_REQUEST_INCOMPLETE",
	ErrCodeMessage:                  "H3_MESSAGE_ERROR",
	ErrCodeConnect:                  "H3_CONNECT_ERROR",
	ErrCodeVersionFallback:          "H3_VERSION_FALLBACK",
	ErrCodeQPACKDecompressionFailed: "QPACK_DECOMPRESSION_FAILED",
	ErrCodeQPACKEncoderStream:       "QPACK_ENCODER_STREAM_ERROR",
	ErrCodeQPACKDecoderStream:       "QPACK_DECODER_STREAM_ERROR",
}

// String returns the name in the RFC, such as "H3_NO_ERROR", or the number of a
// code without one.
func (c ErrorCode) String() string {
	if name, ok := errorCodeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("0x%x", uint64(c))
}

// ErrNeedMore is returned by Decoder.Next while no whole frame and no byte of a
// DATA frame is buffered, and the stream has not ended: feed the Buffer and call
// again. It is the one error of Next that does not last.
var ErrNeedMore = errors.New("h3frame: need more data")

// ErrReleased is returned by Decoder.Next after Buffer.Release if the stream had
// not ended with an error of its own. It is a net.ErrClosed.
var ErrReleased = fmt.Errorf("h3frame: buffer released: %w", net.ErrClosed)

// ErrReset stands in for the error of a Buffer.Reset that was given none.
var ErrReset = errors.New("h3frame: stream reset")

// A FrameError is a violation of HTTP/3 or QPACK by the peer: the one type of
// protocol error in this package.
type FrameError struct {
	Code ErrorCode
	// Type is the frame that broke the rule. It is meaningless where no frame is
	// concerned (its zero value is that of DATA), as at the end of a control stream.
	Type   FrameType
	Reason string
	// Cause is the close or reset that was already known to follow the violation,
	// or what found the field section malformed. It is never io.EOF, so that a
	// violation cannot be taken for a clean end.
	Cause error
}

func (e *FrameError) Error() string {
	s := "h3frame: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the Cause.
func (e *FrameError) Unwrap() error { return e.Cause }

// Is matches a target that is a *FrameError with no more than a Code, so that
// errors.Is(err, &FrameError{Code: ErrCodeMessage}) asks for the code alone.
func (e *FrameError) Is(target error) bool {
	t, ok := target.(*FrameError)
	return ok && t.Code == e.Code && t.Type == 0 && t.Reason == "" && t.Cause == nil
}

// ConnectionError tells whether the violation ends the connection (RFC 9114 §8)
// or only its stream: a malformed message (§4.1.2), a request given up (§4.1.1),
// a tunnel's failure (§4.4), and a field section or capsule above our limit.
func (e *FrameError) ConnectionError() bool {
	switch e.Code {
	case ErrCodeMessage, ErrCodeConnect,
		ErrCodeRequestRejected, ErrCodeRequestCancelled, ErrCodeRequestIncomplete:
		return false
	case ErrCodeExcessiveLoad:
		return e.Type != FrameHeaders && e.Type != FramePushPromise && e.Type != FrameData
	}
	return true
}

// A TruncatedError is a frame that a close cut short. It says nothing against
// the peer's framing: without the close the rest might have come. A FIN in the
// same place is a *FrameError with H3_FRAME_ERROR instead (RFC 9114 §7.1).
type TruncatedError struct {
	Type    FrameType // of the frame; meaningless if Header is set
	Capsule bool      // it is a capsule that was cut, and Type is a CapsuleType
	// Header tells that the cut is in the frame's header. Got then counts the
	// header's bytes, and Want is 0 since the length is not known.
	Header bool
	Got    uint64 // payload bytes that arrived, delivered ones included
	Want   uint64 // payload bytes that the header declares
	Err    error  // the close
}

func (e *TruncatedError) Error() string {
	unit, name := "frame", e.Type.String()
	if e.Capsule {
		unit, name = "capsule", CapsuleType(e.Type).String()
	}
	if e.Header {
		return fmt.Sprintf("h3frame: %s header cut short after %d bytes: %v", unit, e.Got, e.Err)
	}
	return fmt.Sprintf("h3frame: %s %s cut short at %d of %d bytes: %v", name, unit, e.Got, e.Want, e.Err)
}

// Unwrap returns the close.
func (e *TruncatedError) Unwrap() error { return e.Err }

var (
	_ error = (*FrameError)(nil)
	_ error = (*TruncatedError)(nil)
)
