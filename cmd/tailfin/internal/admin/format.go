package admin

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A quantity is a number as people read it, and its unit.
type quantity struct{ Number, Unit string }

func (q quantity) String() string {
	if q.Unit == "" {
		return q.Number
	}
	return q.Number + "\u00a0" + q.Unit
}

// none stands for a number that there is not.
const none = "–"

var siPrefixes = []string{"", "k", "M", "G", "T", "P"}

// si has three digits and a prefix of the unit.
func si(v float64, unit string) quantity {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return quantity{none, unit}
	}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(siPrefixes)-1 {
		v /= 1000
		i++
	}
	return quantity{digits(v), siPrefixes[i] + unit}
}

// digits are three significant ones, or those of a whole number.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95 || a == math.Trunc(a):
		return group(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 0.01:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return "<0.01"
}

// plainRate is a number of things a second.
func plainRate(v float64) quantity {
	if math.IsNaN(v) {
		return quantity{none, "/s"}
	}
	return quantity{digits(v), "/s"}
}

// seconds is a time that something took.
func seconds(v float64) quantity {
	switch {
	case math.IsNaN(v):
		return quantity{none, "ms"}
	case v >= 0.9995:
		return quantity{digits(v), "s"}
	case v >= 0.0009995:
		return quantity{digits(v * 1e3), "ms"}
	}
	return quantity{digits(v * 1e6), "µs"}
}

func bits(v float64) quantity      { return si(v, "bit/s") }
func byteCount(v float64) quantity { return si(v, "B") }
func byteRate(v float64) quantity  { return si(v, "B/s") }
func percent(v float64) quantity   { return quantity{digits(v), "%"} }

// whole is a count, with its thousands apart.
func whole(n uint64) string { return group(strconv.FormatUint(n, 10)) }

func group(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return sign + b.String()
}

// span is a long time: "3 d 4 h", "12 min 5 s".
func span(d time.Duration) string {
	units := []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}}
	d = d.Truncate(time.Second)
	for i, u := range units {
		if d < u.of && u.of > time.Second {
			continue
		}
		out := strconv.FormatInt(int64(d/u.of), 10) + "\u00a0" + u.name
		if i+1 < len(units) {
			next := units[i+1]
			if rest := d % u.of / next.of; rest > 0 {
				out += " " + strconv.FormatInt(int64(rest), 10) + "\u00a0" + next.name
			}
		}
		return out
	}
	return "0\u00a0s"
}
