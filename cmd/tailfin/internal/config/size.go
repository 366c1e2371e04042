package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Size is a number of bytes, written as 16777216, 16MiB or 16MB.
type Size int64

// units of sizes, by how they are written in lower case. Those with an i are
// powers of 1024 (IEC 80000-13).
var units = map[string]int64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1e3, "ki": 1 << 10, "kib": 1 << 10,
	"m": 1e6, "mb": 1e6, "mi": 1 << 20, "mib": 1 << 20,
	"g": 1e9, "gb": 1e9, "gi": 1 << 30, "gib": 1 << 30,
	"t": 1e12, "tb": 1e12, "ti": 1 << 40, "tib": 1 << 40,
}

var errSize = errors.New("not a size; give bytes with or without a unit, for example 1048576, 64KiB or 16GiB")

// UnmarshalText parses a size.
func (s *Size) UnmarshalText(text []byte) error {
	t := strings.TrimSpace(string(text))
	digits := strings.IndexFunc(t, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(t)
	}
	n, err := strconv.ParseInt(t[:digits], 10, 64)
	unit, ok := units[strings.ToLower(strings.TrimSpace(t[digits:]))]
	if err != nil || !ok {
		return fmt.Errorf("%q is %w", text, errSize)
	}
	if n > math.MaxInt64/unit {
		return fmt.Errorf("%q is larger than %d bytes, the most there can be", text, int64(math.MaxInt64))
	}
	*s = Size(n * unit)
	return nil
}

// String writes the size in the largest unit that it is a whole number of.
func (s Size) String() string {
	for _, u := range []struct {
		name string
		size Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.size == 0 {
			return fmt.Sprintf("%d%s", s/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText is String, for the effective configuration.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
