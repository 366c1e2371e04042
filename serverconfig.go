package tailfin

import (
	"context"
	"crypto/tls"
	"maps"
	"net/http"
	"slices"

	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// contextKey is the type of this package's context keys.
type contextKey struct{ name string }

// String names the key as net/http does its own.
func (k *contextKey) String() string { return "tailfin context value " + k.name }

var (
	// ServerContextKey is the key of the *Server in the context of a request, as
	// http.ServerContextKey is of an *http.Server.
	ServerContextKey = &contextKey{"server"}
	// RemoteAddrContextKey is the key of the client's net.Addr in the context of a
	// request: http.Request.RemoteAddr without the way through a string.
	RemoteAddrContextKey = &contextKey{"remote-addr"}
)

// connContext is the context of a connection: nil if ConnContext refuses it.
func (s *Server) connContext(qc *quic.Conn) context.Context {
	ctx := context.WithValue(qc.Context(), ServerContextKey, s)
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, qc.LocalAddr())
	ctx = context.WithValue(ctx, RemoteAddrContextKey, qc.RemoteAddr())
	if s.ConnContext != nil {
		ctx = s.ConnContext(ctx, qc)
	}
	return ctx
}

// settings is what our SETTINGS frame says (RFC 9114 §7.2.4).
func (s *Server) settings() h3frame.Settings {
	settings := h3frame.Settings{
		MaxFieldSectionSize:   h3frame.SettingValue(uint64(s.maxHeaderBytes())),
		EnableConnectProtocol: s.EnableExtendedConnect,
		H3Datagram:            s.EnableDatagrams,
	}
	for _, id := range slices.Sorted(maps.Keys(s.AdditionalSettings)) {
		settings.Other = append(settings.Other, h3frame.Setting{ID: h3frame.SettingID(id), Value: s.AdditionalSettings[id]})
	}
	return settings
}

// quicConfig is QUICConfig with what this server needs of it.
func (s *Server) quicConfig(guard *resetGuard) *quic.Config {
	conf := s.QUICConfig
	if conf == nil {
		conf = &quic.Config{}
	}
	choose := conf.GetConfigForClient
	conf = s.prepareQUIC(conf, guard)
	conf.GetConfigForClient = func(info *quic.ClientInfo) (*quic.Config, error) {
		if err := s.refuseInitial(info); err != nil {
			return conf, err
		}
		own := conf
		if choose != nil {
			chosen, err := choose(info)
			if err != nil {
				return conf, err
			}
			if chosen != nil {
				// It replaces the whole Config (quic-go v0.65.0), tracer and all.
				own = s.prepareQUIC(chosen, guard)
			}
		}
		return s.countHandshake(own, info), nil
	}
	return conf
}

func (s *Server) prepareQUIC(conf *quic.Config, guard *resetGuard) *quic.Config {
	conf = conf.Clone() // install may not
	conf.EnableDatagrams = conf.EnableDatagrams || s.EnableDatagrams
	switch {
	case s.MaxRequestsPerConn > 0:
		conf.MaxIncomingStreams = int64(s.MaxRequestsPerConn)
	case s.MaxRequestsPerConn < 0:
		conf.MaxIncomingStreams = maxStreams
	}
	fitWindows(conf)
	fitPackets(conf)
	opts := s.drain()
	opts.guard = guard
	return opts.install(conf)
}

// tlsConfig returns a copy of conf that speaks HTTP/3.
func (s *Server) tlsConfig(conf *tls.Config) *tls.Config {
	// This makes the automatic ticket keys of conf before it is copied. Else each
	// copy has its own, and no session is resumed (golang/go#60506).
	_, _ = conf.DecryptTicket(nil, tls.ConnectionState{})
	conf = conf.Clone()
	conf.NextProtos = []string{NextProto}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS13)
	s.rememberSettings(conf)
	if choose := conf.GetConfigForClient; choose != nil {
		conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err != nil || chosen == nil {
				return chosen, err
			}
			return s.tlsConfig(chosen), nil
		}
	}
	return conf
}
