package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tailfin-quic/tailfin/cmd/tailfin/internal/sink"
	"github.com/tailfin-quic/tailfin/udp"
)

// A Kind is what becomes of uploads.
type Kind string

// The kinds of --sink.
const (
	Dir    Kind = "dir"
	NDJSON Kind = "ndjson"
	NATS   Kind = "nats"
	// Gateway forwards all requests to an upstream.
	Gateway Kind = "gateway"
)

// kinds are the schemes of --sink.
var kinds = map[string]Kind{
	"dir": Dir, "ndjson": NDJSON, "nats": NATS, "tls": NATS,
	"http": Gateway, "https": Gateway, "h3": Gateway,
}

const sinkRemedy = "give dir:DIR, ndjson:FILE, ndjson:- (standard output), nats://HOST:PORT/STREAM, or http://, https:// or h3://HOST:PORT to forward to, for example dir:./received"

// SinkKind is the kind of Sink, empty if there is no such.
func (s *Serve) SinkKind() Kind {
	scheme, _, _ := strings.Cut(s.Sink, ":")
	return kinds[scheme]
}

// SinkName is Sink without the credentials that it may have.
func (s *Serve) SinkName() string { return sink.Redact(s.Sink) }

// problems are what is wrong with options that are each well formed.
// The slices that Linux grants (sched_setattr(2)).
const (
	minSlice = 100 * time.Microsecond
	maxSlice = 100 * time.Millisecond
)

func (l *Loaded) problems() []error {
	var list []error
	wrong := func(option, value, why, remedy string) {
		list = append(list, l.Wrong(option, value, errors.New(why), remedy))
	}
	if _, _, err := net.SplitHostPort(l.Listen); err != nil {
		wrong("listen", l.Listen, err.Error(), "give HOST:PORT, for example 127.0.0.1:4433, or :443 for all addresses")
	}
	if _, err := udp.ParseBackend(l.Backend); err != nil {
		wrong("backend", l.Backend, err.Error(), "give auto, uring, mmsg or msg")
	}
	if l.Moderation < 0 || l.Moderation > udp.MaxModeration {
		wrong("moderation", l.Moderation.String(), fmt.Sprintf("not from 0 to %v", udp.MaxModeration), "give for example 100us, or 0 to read each datagram at once")
	}
	if l.Slice != 0 && (l.Slice < minSlice || l.Slice > maxSlice) {
		wrong("slice", l.Slice.String(), fmt.Sprintf("not from %v to %v", minSlice, maxSlice), "give for example 100us, or 0 to leave it as it is")
	}
	if l.Shards < 0 || l.Shards > udp.MaxShards {
		wrong("shards", fmt.Sprint(l.Shards), fmt.Sprintf("not from 0 to %d", udp.MaxShards), "give 0 for one a processor")
	}
	l.certificateProblems(wrong)
	if l.SinkKind() == "" {
		wrong("sink", l.SinkName(), "this is no sink", sinkRemedy)
	}
	if l.Admin != "" {
		if _, _, err := net.SplitHostPort(l.Admin); err != nil && !strings.HasPrefix(l.Admin, "unix:") {
			wrong("admin", l.Admin, err.Error(), "give HOST:PORT, for example 127.0.0.1:9433, or unix:PATH")
		}
	}
	l.rangeProblems(wrong)
	return list
}

func (l *Loaded) certificateProblems(wrong func(option, value, why, remedy string)) {
	const both = "give a --key for each --cert, in the same order, or neither for a development certificate"
	cert, key := strings.Join(l.Cert, ","), strings.Join(l.Key, ",")
	switch {
	case len(l.Key) == 0 && len(l.Cert) > 0:
		wrong("cert", cert, "--key is missing", both)
	case len(l.Cert) == 0 && len(l.Key) > 0:
		wrong("key", key, "--cert is missing", both)
	case len(l.Cert) != len(l.Key):
		wrong("key", key, fmt.Sprintf("%d keys for %d certificates", len(l.Key), len(l.Cert)), both)
	}
	acme, files := len(l.ACMEDomain) > 0, len(l.Cert) > 0
	if acme && files {
		wrong("acme-domain", strings.Join(l.ACMEDomain, ","), "there is a certificate from a file too", "leave --cert or --acme-domain out")
	}
	if acme && !l.ACMEAgreeTerms {
		wrong("acme-agree-terms", "", "the authority's terms are not agreed to", "read them, and give --acme-agree-terms")
	}
	if l.CACertOut != "" && (acme || files) {
		wrong("cacert-out", l.CACertOut, "there is no development certificate to write", "leave --cacert-out out, or --cert and --acme-domain")
	}
	if !acme {
		for option, value := range map[string]string{"acme-email": l.ACMEEmail, "acme-ca": l.ACMECA, "acme-ca-root": l.ACMECARoot, "acme-listen": l.ACMEListen, "acme-storage": l.ACMEStorage, "acme-eab-key-id": l.ACMEEABKeyID, "acme-eab-hmac": redacted(l.ACMEEABHMAC), "acme-profile": l.ACMEProfile} {
			if value != "" {
				wrong(option, value, "there is no --acme-domain", "name what the certificate is for")
			}
		}
	}
}

// rangeProblems checks numbers.
func (l *Loaded) rangeProblems(wrong func(option, value, why, remedy string)) {
	for _, c := range []struct {
		option string
		value  int64
		least  int64
	}{
		{"max-body", int64(l.MaxBody), 1}, {"record-inline", int64(l.RecordInline), 0},
		{"max-header", int64(l.MaxHeader), 1 << 10}, {"max-conns", int64(l.MaxConns), 1},
		{"max-conns-per-addr", int64(l.MaxConnsPerAddr), 1}, {"max-handshakes", int64(l.MaxHandshakes), 1}, {"max-streams", int64(l.MaxStreams), 1},
		{"partial-max", int64(l.PartialMax), 1}, {"partial-max-bytes", int64(l.PartialMaxBytes), 1},
		{"qlog-max", int64(l.QlogMax), 1}, {"log-repeat", int64(l.LogRepeat), 0},
	} {
		if c.value < c.least {
			wrong(c.option, fmt.Sprint(c.value), fmt.Sprintf("less than %d", c.least), fmt.Sprintf("give %d or more", c.least))
		}
	}
	for _, c := range []struct {
		option string
		value  float64
		least  float64
	}{
		{"handshake-rate", l.HandshakeRate, -1}, {"handshake-max", l.HandshakeMax, 0},
		{"addr-handshakes", l.AddrHandshakes, 0}, {"addr-requests", l.AddrRequests, 0},
	} {
		if math.IsInf(c.value, 0) {
			wrong(c.option, fmt.Sprint(c.value), "this is no rate", "0 is any number, and for --handshake-rate -1 asks nobody")
		} else if !(c.value >= c.least) {
			wrong(c.option, fmt.Sprint(c.value), fmt.Sprintf("less than %v", c.least), fmt.Sprintf("give %v or more", c.least))
		}
	}
	for _, c := range []struct {
		option string
		value  time.Duration
	}{
		{"grace", l.Grace}, {"readiness-delay", l.ReadinessDelay}, {"partial-keep", l.PartialKeep},
		{"header-timeout", l.HeaderTimeout}, {"body-timeout", l.BodyTimeout}, {"request-timeout", l.RequestTimeout},
		{"idle-timeout", l.IdleTimeout}, {"upstream-timeout", l.UpstreamTimeout},
	} {
		if c.value < 0 {
			wrong(c.option, c.value.String(), "less than 0", "give a time such as 10s or 5m")
		}
	}
	if slices.Contains(l.RecordHeader, "") {
		wrong("record-header", strings.Join(l.RecordHeader, ","), "an empty name is among them", "give names of headers, for example content-type")
	}
}
