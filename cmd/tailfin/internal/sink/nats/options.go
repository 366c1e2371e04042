package natssink

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// an option reads its value into the Config and says what would be right.
type option struct {
	set    func(c *Config, value string) error
	remedy string
}

var options = map[string]option{
	"subject":    {text(subjectOK.MatchString, func(c *Config) *string { return &c.Subject }), "give tokens of letters, digits, - and _ joined by dots, without wildcards"},
	"bucket":     {text(streamName.MatchString, func(c *Config) *string { return &c.Bucket }), "give letters, digits, - and _"},
	"inline":     {size(0, maxInline, func(c *Config) *int64 { return &c.Inline }), "give a size up to 8MiB, for example 256KiB"},
	"headers":    {headers, fmt.Sprintf("give up to %d names of headers, parted by commas", maxHeaders)},
	"wait":       {span(time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.Wait }), "give a time from 1ms to 1h, for example 5s"},
	"ack-wait":   {span(100*time.Millisecond, time.Hour, func(c *Config) *time.Duration { return &c.AckWait }), "give a time from 100ms to 1h, for example 30s"},
	"in-flight":  {number(1, maxInFlight, func(c *Config) *int { return &c.InFlight }), fmt.Sprintf("give a number from 1 to %d", maxInFlight)},
	"sweep":      {sweepAge, "give a time from 10m on, for example 24h, or 0 for never"},
	"create":     {onOff, "give 1 or 0"},
	"replicas":   {number(1, 5, func(c *Config) *int { return &c.Replicas }), "give a number from 1 to 5"},
	"storage":    {storage, "give file or memory"},
	"max-age":    {span(0, math.MaxInt64, func(c *Config) *time.Duration { return &c.MaxAge }), "give a time, for example 720h, or 0 for ever"},
	"max-bytes":  {size(0, math.MaxInt64, func(c *Config) *int64 { return &c.MaxBytes }), "give a size, for example 100GiB, or 0 for no limit"},
	"duplicates": {span(time.Second, math.MaxInt64, func(c *Config) *time.Duration { return &c.Duplicates }), "give a time, for example 2m"},
	"creds":      {text(nonEmpty, func(c *Config) *string { return &c.Creds }), "name a file"},
	"nkey":       {text(nonEmpty, func(c *Config) *string { return &c.NKey }), "name a file"},
	"ca":         {text(nonEmpty, func(c *Config) *string { return &c.CA }), "name a file"},
	"cert":       {text(nonEmpty, func(c *Config) *string { return &c.Cert }), "name a file"},
	"key":        {text(nonEmpty, func(c *Config) *string { return &c.Key }), "name a file"},
}

func (c *Config) options(values url.Values) error {
	c.Inline, c.Wait, c.AckWait, c.InFlight, c.Sweep = defaultInline, defaultWait, defaultAckWait, defaultInFlight, defaultSweep
	c.Replicas, c.Storage, c.Duplicates = 1, jetstream.FileStorage, defaultDuplicates
	c.Headers = []string{"Content-Type", "Content-Encoding", "User-Agent"}
	for key, list := range values {
		o, ok := options[key]
		if !ok {
			known := make([]string, 0, len(options))
			for name := range options {
				known = append(known, name)
			}
			slices.Sort(known)
			return &ConfigError{key, list[0], "is no option", "there are " + strings.Join(known, ", ")}
		}
		if len(list) > 1 {
			return &ConfigError{key, strings.Join(list, ","), "is given twice", "give it once"}
		}
		if err := o.set(c, list[0]); err != nil {
			return &ConfigError{key, list[0], err.Error(), o.remedy}
		}
	}
	return nil
}

func nonEmpty(s string) bool { return s != "" }

func text(ok func(string) bool, field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !ok(v) {
			return fmt.Errorf("is empty or has other characters")
		}
		*field(c) = v
		return nil
	}
}

func span(lowest, highest time.Duration, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < lowest || d > highest {
			return fmt.Errorf("is no such time")
		}
		*field(c) = d
		return nil
	}
}

func number(lowest, highest int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < lowest || n > highest {
			return fmt.Errorf("is no such number")
		}
		*field(c) = n
		return nil
	}
}

// units of a size. Longer suffixes stand first.
var units = []struct {
	suffix string
	shift  uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"B", 0}, {"", 0}}

func size(lowest, highest int64, field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, u := range units {
			digits, ok := strings.CutSuffix(v, u.suffix)
			if !ok {
				continue
			}
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil || n < lowest || n > highest>>u.shift {
				break
			}
			*field(c) = n << u.shift
			return nil
		}
		return fmt.Errorf("is no such size")
	}
}

// sweepAge has a lowest value, since an upload takes some minutes from its last
// chunk to its message if NATS is slow.
func sweepAge(c *Config, v string) error {
	if v == "0" {
		c.Sweep = 0
		return nil
	}
	return span(minSweep, math.MaxInt64, func(c *Config) *time.Duration { return &c.Sweep })(c, v)
}

func onOff(c *Config, v string) (err error) {
	if c.Create, err = strconv.ParseBool(v); err != nil {
		return fmt.Errorf("is neither on nor off")
	}
	return nil
}

func storage(c *Config, v string) error {
	switch v {
	case "file":
		c.Storage = jetstream.FileStorage
	case "memory":
		c.Storage = jetstream.MemoryStorage
	default:
		return fmt.Errorf("is no kind of storage")
	}
	return nil
}

func headers(c *Config, v string) error {
	c.Headers = nil
	if v == "" {
		return nil
	}
	for name := range strings.SplitSeq(v, ",") {
		if name = strings.TrimSpace(name); !headerName.MatchString(name) {
			return fmt.Errorf("has %q, which is no name of a header", name)
		}
		c.Headers = append(c.Headers, http.CanonicalHeaderKey(name))
	}
	if len(c.Headers) > maxHeaders {
		return fmt.Errorf("has %d names", len(c.Headers))
	}
	return nil
}
