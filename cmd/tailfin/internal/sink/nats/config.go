package natssink

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
)

const (
	defaultInline     = 256 << 10
	maxInline         = 8 << 20 // NATS advises against messages above 8 MiB
	defaultWait       = 5 * time.Second
	defaultAckWait    = 30 * time.Second
	defaultInFlight   = 256
	maxInFlight       = 4096
	defaultSweep      = 24 * time.Hour
	minSweep          = 10 * time.Minute
	defaultDuplicates = 2 * time.Minute
	maxHeaders        = 16 // request headers kept
)

// Config is a parsed URL of this sink. It prints without credentials.
type Config struct {
	Servers []string // nats://HOST:PORT, without credentials
	TLS     bool
	Stream  string
	Subject string // prefix; a message goes to Subject.NAME
	Bucket  string
	Inline  int64 // longest body within a message, in bytes
	Headers []string

	Wait     time.Duration
	AckWait  time.Duration
	InFlight int
	Sweep    time.Duration

	Create     bool
	Replicas   int
	Storage    jetstream.StorageType
	MaxAge     time.Duration
	MaxBytes   int64
	Duplicates time.Duration

	Creds, NKey   string // files
	CA, Cert, Key string // files

	auth nats.Option // of the URL; nil if it has none
}

// String is the sink's URL without credentials and options.
func (c *Config) String() string {
	hosts := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		_, hosts[i], _ = strings.Cut(s, "://")
	}
	return c.scheme() + "://" + strings.Join(hosts, ",") + "/" + c.Stream
}

func (c *Config) scheme() string {
	if c.TLS {
		return "tls"
	}
	return "nats"
}

// IsURL tells whether a URL names this kind of sink.
func IsURL(raw string) bool {
	return strings.HasPrefix(raw, "nats://") || strings.HasPrefix(raw, "tls://")
}

// A ConfigError is a part of the URL that is not right. It names no
// credentials.
type ConfigError struct {
	Key, Value string
	Problem    string
	Remedy     string
}

func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s %s: %s", e.Key, e.Problem, e.Remedy)
	}
	return fmt.Sprintf("%s=%s %s: %s", e.Key, e.Value, e.Problem, e.Remedy)
}

const form = "use nats://HOST:PORT/STREAM, for example nats://127.0.0.1:4222/UPLOADS?create=1"

var (
	streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)
	subjectOK  = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

// ParseURL reads the URL of a sink.
func ParseURL(raw string) (*Config, error) {
	if !IsURL(raw) {
		return nil, &ConfigError{"sink", sink.Redact(raw), "is no nats:// or tls:// URL", form}
	}
	scheme, rest, _ := strings.Cut(raw, "://")
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") || !strings.Contains(authority, "@") && strings.Contains(query, "@") && !strings.Contains(rest, "/") {
		// The value would show a part of a password.
		return nil, &ConfigError{"user and password", "", "are not percent-encoded", "write / as %2F, ? as %3F, @ as %40 and % as %25"}
	}
	cfg := &Config{TLS: scheme == "tls"}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := cfg.userinfo(authority[:at]); err != nil {
			return nil, err
		}
		authority = authority[at+1:]
	}
	if err := cfg.hosts(authority); err != nil {
		return nil, err
	}
	if cfg.Stream = path; !streamName.MatchString(path) {
		return nil, &ConfigError{"stream", path, "is no name for a stream (letters, digits, - and _)", form}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, &ConfigError{"options", "", "are not well-formed", "write them as KEY=VALUE&KEY=VALUE, percent-encoded"}
	}
	if err := cfg.options(values); err != nil {
		return nil, err
	}
	return cfg, cfg.check()
}

func (c *Config) userinfo(text string) error {
	user, password, hasPassword := strings.Cut(text, ":")
	user, err1 := url.PathUnescape(user)
	password, err2 := url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return &ConfigError{"user and password", "", "are not percent-encoded", "write / as %2F, ? as %3F, @ as %40 and % as %25"}
	}
	switch {
	case user == "":
		return &ConfigError{"user", "", "is empty", "write USER:PASSWORD@HOST or TOKEN@HOST, or leave the @ out"}
	case hasPassword:
		c.auth = nats.UserInfo(user, password)
	default:
		c.auth = nats.Token(user)
	}
	return nil
}

func (c *Config) hosts(authority string) error {
	for host := range strings.SplitSeq(authority, ",") {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = strings.Trim(host, "[]"), "4222"
			if strings.Contains(name, ":") && net.ParseIP(name) == nil {
				err = errors.New("more than one colon")
			} else {
				err = nil
			}
		}
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 || name == "" || strings.ContainsAny(name, " @/\\[]") {
			// Not the value: what stands here may be an unescaped password.
			return &ConfigError{"server", "", "is no HOST:PORT", form + "; several are parted by commas"}
		}
		c.Servers = append(c.Servers, c.scheme()+"://"+net.JoinHostPort(name, port))
	}
	return nil
}

// check finds options that do not go together, and sets what depends on others.
func (c *Config) check() error {
	if c.Subject == "" {
		c.Subject = c.Stream
	}
	if c.Bucket == "" {
		c.Bucket = c.Stream
	}
	given := 0
	for _, is := range []bool{c.auth != nil, c.Creds != "", c.NKey != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return &ConfigError{"creds", c.Creds, "is one of several ways to log in that are given", "give one of USER:PASSWORD@, TOKEN@, creds=FILE and nkey=FILE"}
	case (c.Cert == "") != (c.Key == ""):
		return &ConfigError{"cert", c.Cert, "and key belong together", "give cert=FILE&key=FILE, or neither"}
	case c.MaxAge > 0 && c.Duplicates > c.MaxAge:
		return &ConfigError{"duplicates", c.Duplicates.String(), "is longer than max-age=" + c.MaxAge.String(), "a message that is gone is not known; make duplicates shorter"}
	case c.Wait+c.AckWait > defaultDuplicates:
		// The window of an object store cannot be chosen; it is the server's default.
		return &ConfigError{"ack-wait", c.AckWait.String(), "and wait=" + c.Wait.String() + " are more than 2m, within which a chunk may be sent again", "make them shorter"}
	case c.Duplicates < c.Wait+c.AckWait:
		return &ConfigError{"duplicates", c.Duplicates.String(), "is shorter than wait and ack-wait together, for which a message is sent again",
			fmt.Sprintf("give %v or more", c.Wait+c.AckWait)}
	}
	return nil
}
