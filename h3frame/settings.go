package h3frame

import (
	"fmt"
	"slices"
)

// A SettingID identifies a setting
// (https://www.rfc-editor.org/rfc/rfc9114#section-11.2.2).
type SettingID uint64

// The settings that this package knows.
const (
	SettingQPACKMaxTableCapacity SettingID = 0x1  // RFC 9204 §5
	SettingMaxFieldSectionSize   SettingID = 0x6  // RFC 9114 §7.2.4.1
	SettingQPACKBlockedStreams   SettingID = 0x7  // RFC 9204 §5
	SettingEnableConnectProtocol SettingID = 0x8  // RFC 9220 §3
	SettingH3Datagram            SettingID = 0x33 // RFC 9297 §2.1.1
)

// Settings that HTTP/2 uses and HTTP/3 has no counterpart for. Their receipt is
// an H3_SETTINGS_ERROR (RFC 9114 §7.2.4.1, §11.2.2).
const (
	reservedSetting0             SettingID = 0x0
	reservedEnablePush           SettingID = 0x2
	reservedMaxConcurrentStreams SettingID = 0x3
	reservedInitialWindowSize    SettingID = 0x4
	reservedMaxFrameSize         SettingID = 0x5
)

// maxSettings bounds the settings in one frame, and with them the work of looking
// for duplicates. Peers send some five.
const maxSettings = 64

// The values of a setting that is a boolean.
const (
	settingFalse uint64 = 0
	settingTrue  uint64 = 1
)

// A Setting is an identifier and its value.
type Setting struct {
	ID    SettingID
	Value uint64
}

// Settings is the content of a SETTINGS frame (RFC 9114 §7.2.4). The zero value
// is what holds for a peer whose SETTINGS have not arrived.
type Settings struct {
	// MaxFieldSectionSize is the largest field section that the sender accepts,
	// in bytes as RFC 9114 §4.2.2 counts. Nil means that it set none.
	MaxFieldSectionSize   *uint64
	QPACKMaxTableCapacity uint64 // bytes of dynamic table that the sender's decoder keeps
	QPACKBlockedStreams   uint64
	EnableConnectProtocol bool // extended CONNECT is accepted (RFC 9220)
	H3Datagram            bool // HTTP datagrams are accepted (RFC 9297)
	// Other are the settings that this package does not know, in order, grease
	// included.
	Other []Setting
}

// SettingValue returns a pointer to v, for Settings.MaxFieldSectionSize.
func SettingValue(v uint64) *uint64 { return &v }

// reserved tells a setting that HTTP/2 left behind.
func (id SettingID) reserved() bool {
	switch id {
	case reservedSetting0, reservedEnablePush, reservedMaxConcurrentStreams, reservedInitialWindowSize, reservedMaxFrameSize:
		return true
	}
	return false
}

// known tells a setting that has a field of its own in Settings.
func (id SettingID) known() bool {
	switch id {
	case SettingQPACKMaxTableCapacity, SettingMaxFieldSectionSize, SettingQPACKBlockedStreams,
		SettingEnableConnectProtocol, SettingH3Datagram:
		return true
	}
	return false
}

// ParseSettings reads the payload of a SETTINGS frame. A payload cut within a
// setting is an H3_FRAME_ERROR (RFC 9114 §7.1); a duplicate, a setting reserved
// for HTTP/2 and a boolean that is neither 0 nor 1 are an H3_SETTINGS_ERROR
// (§7.2.4, RFC 9220 §3, RFC 9297 §2.1.1); more than 64 settings are an
// H3_EXCESSIVE_LOAD.
func ParseSettings(payload []byte) (Settings, error) {
	var (
		s    Settings
		seen [maxSettings]SettingID
	)
	for n := 0; len(payload) > 0; n++ {
		id, i := ParseVarint(payload)
		value, j := ParseVarint(payload[i:])
		if i == 0 || j == 0 {
			return Settings{}, settingsError(ErrCodeFrame, "cut within a setting")
		}
		payload = payload[i+j:]
		if n == maxSettings {
			return Settings{}, settingsError(ErrCodeExcessiveLoad, "more than %d settings", maxSettings)
		}
		if slices.Contains(seen[:n], SettingID(id)) {
			return Settings{}, settingsError(ErrCodeSettings, "setting 0x%x twice", id)
		}
		seen[n] = SettingID(id)
		if err := s.set(SettingID(id), value); err != nil {
			return Settings{}, err
		}
	}
	return s, nil
}

func (s *Settings) set(id SettingID, value uint64) error {
	if id.reserved() {
		return settingsError(ErrCodeSettings, "setting 0x%x is reserved for HTTP/2", uint64(id))
	}
	var err error
	switch id {
	case SettingMaxFieldSectionSize:
		s.MaxFieldSectionSize = SettingValue(value)
	case SettingQPACKMaxTableCapacity:
		s.QPACKMaxTableCapacity = value
	case SettingQPACKBlockedStreams:
		s.QPACKBlockedStreams = value
	case SettingEnableConnectProtocol:
		s.EnableConnectProtocol, err = parseBool(id, value)
	case SettingH3Datagram:
		s.H3Datagram, err = parseBool(id, value)
	default:
		s.Other = append(s.Other, Setting{ID: id, Value: value})
	}
	return err
}

func parseBool(id SettingID, value uint64) (bool, error) {
	if value != settingFalse && value != settingTrue {
		return false, settingsError(ErrCodeSettings, "setting 0x%x is %d, neither 0 nor 1", uint64(id), value)
	}
	return value == settingTrue, nil
}

func settingsError(code ErrorCode, format string, args ...any) error {
	return &FrameError{Code: code, Type: FrameSettings, Reason: "SETTINGS frame: " + fmt.Sprintf(format, args...)}
}

// AppendSettings appends a SETTINGS frame. Zero and false are the defaults of
// their settings and are left out, as are those of s.Other that have a field of
// their own or that a peer must refuse.
func AppendSettings(b []byte, s Settings) []byte {
	length := 0
	s.each(func(id SettingID, value uint64) {
		length += VarintLen(uint64(id)) + VarintLen(value)
	})
	b = AppendFrameHeader(b, FrameSettings, uint64(length))
	s.each(func(id SettingID, value uint64) {
		b = AppendVarint(AppendVarint(b, uint64(id)), value)
	})
	return b
}

// each calls f for every setting that goes on the wire.
func (s *Settings) each(f func(id SettingID, value uint64)) {
	if s.QPACKMaxTableCapacity != 0 {
		f(SettingQPACKMaxTableCapacity, s.QPACKMaxTableCapacity)
	}
	if s.MaxFieldSectionSize != nil {
		f(SettingMaxFieldSectionSize, *s.MaxFieldSectionSize)
	}
	if s.QPACKBlockedStreams != 0 {
		f(SettingQPACKBlockedStreams, s.QPACKBlockedStreams)
	}
	if s.EnableConnectProtocol {
		f(SettingEnableConnectProtocol, settingTrue)
	}
	if s.H3Datagram {
		f(SettingH3Datagram, settingTrue)
	}
	for _, o := range s.Other {
		if !o.ID.known() && !o.ID.reserved() {
			f(o.ID, o.Value)
		}
	}
}

// CheckResumed holds the settings that a server has sent now against s, those that
// the client remembered from the session before and sent 0-RTT data under. If the
// server accepted that data, a lower limit, a setting left out that was there, and
// a promise taken back are an H3_SETTINGS_ERROR (RFC 9114 §7.2.4.2, RFC 9204
// §3.2.3, RFC 9297 §2.1.1).
func (s *Settings) CheckResumed(now Settings) error {
	lowered := func(id SettingID) error {
		return settingsError(ErrCodeSettings, "setting 0x%x is not what 0-RTT data was sent under", uint64(id))
	}
	switch {
	case (now.MaxFieldSectionSize == nil) != (s.MaxFieldSectionSize == nil),
		now.MaxFieldSectionSize != nil && *now.MaxFieldSectionSize < *s.MaxFieldSectionSize:
		return lowered(SettingMaxFieldSectionSize)
	case s.QPACKMaxTableCapacity != 0 && now.QPACKMaxTableCapacity != s.QPACKMaxTableCapacity:
		return lowered(SettingQPACKMaxTableCapacity)
	case now.QPACKBlockedStreams < s.QPACKBlockedStreams:
		return lowered(SettingQPACKBlockedStreams)
	case s.EnableConnectProtocol && !now.EnableConnectProtocol:
		return lowered(SettingEnableConnectProtocol)
	case s.H3Datagram && !now.H3Datagram:
		return lowered(SettingH3Datagram)
	}
	return nil
}
