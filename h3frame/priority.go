package h3frame

import (
	"fmt"

	"github.com/dunglas/httpsfv"
)

// The parameters of RFC 9218 §4 and the bounds of the first.
const (
	priorityUrgency     = "u"
	priorityIncremental = "i"

	// DefaultUrgency is the urgency of a request that states none. 0 is the most
	// urgent, MaxUrgency the least (RFC 9218 §4.1).
	DefaultUrgency = 3
	MaxUrgency     = 7
)

// A Priority is the value of a Priority field or of a PRIORITY_UPDATE frame
// (RFC 9218 §4).
type Priority struct {
	Urgency     int  // 0 to MaxUrgency
	Incremental bool // parts of the response are of use before all of it
}

// DefaultPriority is what holds where no priority was given.
var DefaultPriority = Priority{Urgency: DefaultUrgency}

// ParsePriority reads the value of a Priority field, several lines joined by
// commas. Unknown parameters, and values that are out of range or of another
// type, count as not given (RFC 9218 §4). A value that is no Structured Field
// Dictionary (RFC 9651) is an error and gives DefaultPriority, which is what
// stands for it in a field (RFC 9218 §4); in a frame it may be an
// H3_GENERAL_PROTOCOL_ERROR (§7), and the error has this code.
func ParsePriority(value string) (Priority, error) {
	p := DefaultPriority
	dict, err := httpsfv.UnmarshalDictionary([]string{value})
	if err != nil {
		return p, &FrameError{Code: ErrCodeGeneralProtocol, Type: FramePriorityUpdateRequest, Reason: "priority field value", Cause: err}
	}
	if m, ok := dict.Get(priorityUrgency); ok {
		if item, ok := m.(httpsfv.Item); ok {
			if u, ok := item.Value.(int64); ok && 0 <= u && u <= MaxUrgency {
				p.Urgency = int(u)
			}
		}
	}
	if m, ok := dict.Get(priorityIncremental); ok {
		if item, ok := m.(httpsfv.Item); ok {
			p.Incremental, _ = item.Value.(bool)
		}
	}
	return p, nil
}

// String returns the field value, without the parameters that have their default.
func (p Priority) String() string {
	var s string
	if p.Urgency != DefaultUrgency {
		s = fmt.Sprintf("%s=%d", priorityUrgency, min(max(p.Urgency, 0), MaxUrgency))
	}
	if p.Incremental {
		if s != "" {
			s += ", "
		}
		s += priorityIncremental
	}
	return s
}

// ParsePriorityUpdate takes the payload of a PRIORITY_UPDATE frame apart: the ID
// of a request stream or of a push, by the frame's type, and what it is to have
// from now on (RFC 9218 §7.2). A payload without a whole ID is an
// H3_FRAME_ERROR; for a value that is malformed see ParsePriority.
func ParsePriorityUpdate(payload []byte) (id uint64, p Priority, err error) {
	id, value, err := splitPriorityUpdate(payload)
	if err != nil {
		return 0, DefaultPriority, err
	}
	p, err = ParsePriority(string(value))
	return id, p, err
}

// AppendPriorityUpdate appends a PRIORITY_UPDATE frame of either type, for the
// request stream or the push with the given ID. Only clients send it.
func AppendPriorityUpdate(b []byte, t FrameType, id uint64, p Priority) []byte {
	value := p.String()
	b = AppendFrameHeader(b, t, uint64(VarintLen(id)+len(value)))
	return append(AppendVarint(b, id), value...)
}

func splitPriorityUpdate(payload []byte) (id uint64, value []byte, err error) {
	id, n := ParseVarint(payload)
	if n == 0 {
		return 0, nil, &FrameError{Code: ErrCodeFrame, Type: FramePriorityUpdateRequest, Reason: "PRIORITY_UPDATE frame: ends within its ID"}
	}
	return id, payload[n:], nil
}
