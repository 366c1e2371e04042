// Package config is the configuration of `tailfin serve`: one struct for flags,
// environment and a YAML file.
//
// A flag --max-body is the key max-body of the file and the variable
// TAILFIN_MAX_BODY. A flag outdoes the environment, which outdoes the file.
package config

import (
	"log/slog"
	"time"
)

// Serve is all that `tailfin serve` can be told. A field tagged reload takes effect
// by SIGHUP; the others need a restart.
type Serve struct {
	File string `name:"config" placeholder:"FILE" help:"Take settings from this YAML file; its keys are the names of these flags. SIGHUP reads it again."`

	Listen     string        `group:"Receiving" default:"127.0.0.1:4433" placeholder:"ADDR" help:"UDP address to receive on (${default})."`
	Backend    string        `group:"Receiving" default:"auto" placeholder:"NAME" help:"How to read datagrams: auto, uring, mmsg or msg (${default}). All but auto are strict."`
	Strict     bool          `group:"Receiving" help:"Refuse to start rather than go without io_uring or GRO."`
	NoGRO      bool          `group:"Receiving" name:"no-gro" help:"Do not let the kernel hand over trains of datagrams."`
	Moderation time.Duration `group:"Receiving" default:"${moderation}" placeholder:"TIME" help:"How long to let datagrams gather at most while they come fast, 0 for never (${default})."`
	Slice      time.Duration `group:"Receiving" default:"100us" placeholder:"TIME" help:"Slice of processor time to ask the scheduler for: with a short one datagrams are read at once also while others compute. 0 leaves it as it is (${default}; Linux 6.12 or later)."`
	Drain      string        `group:"Receiving" default:"on" enum:"on,off" placeholder:"on|off" help:"Keep what was received when a client closes (${default}). Off is stock quic-go, for comparison."`
	Shards     int           `group:"Receiving" default:"0" placeholder:"N" help:"Sockets and readers on the address; 0 is one for each processor that GOMAXPROCS allows, ${maxShards} at most."`
	Takeover   bool          `group:"Receiving" help:"Take over from the tailfin that serves the address now: it finishes what it has begun, and exits."`

	Cert           []string `group:"Certificates" sep:"," placeholder:"FILE" help:"Certificate chain in PEM; several are chosen by name. Read again when they change. Without one a development certificate is made, in memory."`
	Key            []string `group:"Certificates" sep:"," placeholder:"FILE" help:"Private key in PEM, one for each --cert."`
	CACertOut      string   `group:"Certificates" name:"cacert-out" placeholder:"FILE" help:"Write the development certificate here, for --cacert of a client."`
	ClientCA       string   `group:"Certificates" name:"client-ca" placeholder:"FILE" help:"Serve only clients that have a certificate of one of these authorities (PEM)."`
	ClientAuth     string   `group:"Certificates" default:"require" enum:"require,request" placeholder:"require|request" help:"Whether a client must have such a certificate, or may (${default})."`
	ACMEDomain     []string `group:"Certificates" name:"acme-domain" sep:"," placeholder:"NAME" help:"Get and renew a certificate for this name by ACME."`
	ACMEEmail      string   `group:"Certificates" name:"acme-email" placeholder:"ADDR" help:"Contact of the ACME account."`
	ACMEAgreeTerms bool     `group:"Certificates" name:"acme-agree-terms" help:"Agree to the terms of the ACME authority."`
	ACMECA         string   `group:"Certificates" name:"acme-ca" placeholder:"URL" help:"Directory of the ACME authority; Let's Encrypt if empty."`
	ACMECARoot     string   `group:"Certificates" name:"acme-ca-root" placeholder:"FILE" help:"Trust the ACME authority by these certificates (PEM)."`
	ACMEChallenge  string   `group:"Certificates" name:"acme-challenge" default:"tls-alpn-01" enum:"tls-alpn-01,http-01" placeholder:"NAME" help:"How to prove the name: tls-alpn-01 on TCP port 443, or http-01 on 80 (${default})."`
	ACMEListen     string   `group:"Certificates" name:"acme-listen" placeholder:"ADDR" help:"TCP address to answer the challenge on, where the well-known port is forwarded to."`
	ACMEStorage    string   `group:"Certificates" name:"acme-storage" placeholder:"DIR" help:"Where ACME keys and certificates are kept; $STATE_DIRECTORY/acme if empty."`
	ACMEEABKeyID   string   `group:"Certificates" name:"acme-eab-key-id" placeholder:"ID" help:"Key ID of an external account binding."`
	ACMEEABHMAC    string   `group:"Certificates" name:"acme-eab-hmac" secret:"" placeholder:"KEY" help:"Key of it in base64url; give it in the environment, since all users see command lines."`
	ACMEProfile    string   `group:"Certificates" name:"acme-profile" placeholder:"NAME" help:"Profile to ask the ACME authority for, such as shortlived."`

	Sink             string        `group:"Storing" default:"dir:./received" placeholder:"URL" help:"Where uploads go: dir:DIR, ndjson:FILE, ndjson:- or nats://HOST/STREAM; https://HOST, http://HOST and h3://HOST forward all requests (${default})."`
	MaxBody          Size          `group:"Storing" default:"16GiB" placeholder:"SIZE" reload:"" help:"Longest body that is stored (${default})."`
	RecordHeader     []string      `group:"Storing" sep:"," placeholder:"NAME" default:"content-type,user-agent" help:"Request headers that ndjson and nats records keep (${default})."`
	RecordInline     Size          `group:"Storing" default:"64KiB" placeholder:"SIZE" help:"Longest body that an ndjson record holds itself (${default})."`
	RecordBodies     string        `group:"Storing" placeholder:"DIR" help:"Folder for longer bodies of ndjson records; FILE.d if empty."`
	PartialKeep      time.Duration `group:"Storing" default:"24h" placeholder:"TIME" help:"How long an interrupted upload can be resumed (${default}); 0 takes no such uploads."`
	PartialMax       int           `group:"Storing" default:"10000" placeholder:"N" help:"Interrupted uploads that are kept at most (${default})."`
	PartialMaxBytes  Size          `group:"Storing" default:"64GiB" placeholder:"SIZE" help:"Bytes of interrupted uploads that are kept at most (${default})."`
	UpstreamCA       string        `group:"Storing" name:"upstream-ca" placeholder:"FILE" help:"Trust the upstream by these certificates only (PEM)."`
	UpstreamInsecure bool          `group:"Storing" name:"upstream-insecure" help:"Trust any certificate of the upstream. For development."`
	PreserveHost     bool          `group:"Storing" help:"Send the client's Host to the upstream, not the upstream's own."`
	UpstreamTimeout  time.Duration `group:"Storing" default:"60s" placeholder:"TIME" help:"How long an upstream may take to begin its answer (${default})."`

	Grace          time.Duration `group:"Life cycle" default:"10s" placeholder:"TIME" reload:"" help:"How long requests at work may take after SIGTERM or SIGINT (${default})."`
	ReadinessDelay time.Duration `group:"Life cycle" default:"0s" placeholder:"TIME" reload:"" help:"How long to go on as before after SIGTERM while /readyz fails, so that load balancers turn away (${default})."`

	Admin            string   `group:"Observing" placeholder:"ADDR" help:"TCP address of metrics, health and the status page, such as 127.0.0.1:9433; without a host that of loopback, none if empty."`
	AdminHost        []string `group:"Observing" name:"admin-host" sep:"," placeholder:"NAME" help:"Host names that --admin answers for, beside localhost and IP addresses."`
	AdminExposeDebug bool     `group:"Observing" help:"Answer /debug/, with profiles, also where --admin is not a loopback address."`

	LogFormat string     `group:"Observing" default:"text" enum:"text,json" placeholder:"text|json" help:"Form of the log on stderr (${default})."`
	LogLevel  slog.Level `group:"Observing" default:"info" placeholder:"LEVEL" reload:"" help:"debug, info, warn or error (${default}). Info has a line for each request."`
	AccessLog string     `group:"Observing" default:"on" enum:"on,off,errors" placeholder:"on|off|errors" reload:"" help:"Log each request, or those that failed only (${default})."`
	LogRepeat int        `group:"Observing" default:"10" placeholder:"N" help:"Lines of one message in a second before the rest is only counted; 0 is any number (${default}). Access lines are not counted."`
	QlogDir   string     `group:"Observing" name:"qlog-dir" placeholder:"DIR" help:"Write a qlog of each connection here. For debugging: it is large and slow."`
	QlogMax   int        `group:"Observing" name:"qlog-max" default:"1000" placeholder:"N" help:"Files in --qlog-dir after which no more are written (${default})."`
	KeyLog    string     `group:"Observing" name:"key-log" placeholder:"FILE" help:"Write TLS secrets here, for Wireshark. Whoever has them reads the traffic."`

	MaxConns        int           `group:"Limits" default:"65536" placeholder:"N" help:"Connections open at once (${default})."`
	MaxConnsPerAddr int           `group:"Limits" default:"4096" placeholder:"N" help:"Connections open at once from one IPv4 address or IPv6 /64 (${default})."`
	MaxHandshakes   int           `group:"Limits" default:"4096" placeholder:"N" help:"Handshakes under way at once (${default}); from half of it on clients must prove their address by a Retry."`
	MaxStreams      int           `group:"Limits" default:"100" placeholder:"N" help:"Requests at work at once on one connection (${default})."`
	MaxHeader       Size          `group:"Limits" default:"64KiB" placeholder:"SIZE" help:"Longest header section of a request, 32 bytes more a field (${default})."`
	HandshakeRate   float64       `group:"Limits" default:"1000" placeholder:"N" reload:"" help:"New connections a second above which clients must prove their address by a Retry; 0 asks all, -1 none (${default})."`
	HandshakeMax    float64       `group:"Limits" default:"20000" placeholder:"N" reload:"" help:"New connections a second above which the rest are refused; 0 is any number (${default})."`
	AddrHandshakes  float64       `group:"Limits" default:"0" placeholder:"N" reload:"" help:"New connections a second from one IPv4 address or IPv6 /64; 0 is any number (${default})."`
	AddrRequests    float64       `group:"Limits" default:"0" placeholder:"N" reload:"" help:"Requests a second from one IPv4 address or IPv6 /64, answered 429 above; 0 is any number (${default})."`
	HeaderTimeout   time.Duration `group:"Limits" default:"10s" placeholder:"TIME" help:"How long the header section of a request may take (${default})."`
	BodyTimeout     time.Duration `group:"Limits" default:"1m" placeholder:"TIME" help:"How long to wait for the next byte of a body (${default}); 0 is any time."`
	RequestTimeout  time.Duration `group:"Limits" default:"0s" placeholder:"TIME" help:"How long a request may take as a whole; 0 is any time (${default})."`
	IdleTimeout     time.Duration `group:"Limits" default:"5m" placeholder:"TIME" help:"How long a connection may be without a request (${default}); 0 is any time."`
}

// MaxShards is how many shards --shards 0 makes at most. Beyond it more readers
// only cost wake-ups: sixteen take in more than network cards deliver.
const MaxShards = 16
