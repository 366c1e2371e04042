package logging

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// visible writes lines as a terminal may show them. What slog leaves as it is within a
// value, DEL, and in JSON the controls above ASCII and those of the direction of text,
// becomes its escape in JSON, which is the same value there.
type visible struct{ io.Writer }

// Write writes the lines in one call of the writer below.
func (v visible) Write(p []byte) (int, error) {
	first := hidden(p)
	if first < 0 {
		return v.Writer.Write(p)
	}
	shown := append(make([]byte, 0, len(p)+64), p[:first]...)
	for rest := p[first:]; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if isHidden(r, size) {
			shown = fmt.Appendf(shown, `\u%04x`, r)
		} else {
			shown = append(shown, rest[:size]...)
		}
		rest = rest[size:]
	}
	if _, err := v.Writer.Write(shown); err != nil {
		return 0, err
	}
	return len(p), nil
}

// hidden is where the first character is that must not be written, -1 if there is none.
func hidden(p []byte) int {
	for i := 0; i < len(p); {
		if p[i] < 0x7f {
			i++ // a newline ends a line, and slog writes no other control
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		if isHidden(r, size) {
			return i
		}
		i += size
	}
	return -1
}

// isHidden tells a character by its bytes: of what is no UTF-8, utf8.RuneError is left.
func isHidden(r rune, size int) bool {
	return r == utf8.RuneError && size == 1 || r == 0x7f || 0x80 <= r && r < 0xa0 || unicode.Is(unicode.Bidi_Control, r)
}
