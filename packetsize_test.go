package tailfin

import (
	"context"
	"errors"
	"testing"

	"github.com/quic-go/quic-go"
)

// TestFirstPacketSize has servers and clients begin with what each path carries, unless they
// are told otherwise, and leave the caller's configuration alone.
func TestFirstPacketSize(t *testing.T) {
	for _, tc := range []struct{ given, want uint16 }{{0, 1200}, {1350, 1350}} {
		given := &quic.Config{InitialPacketSize: tc.given}
		if got := (&Server{QUICConfig: given}).quicConfig(nil).InitialPacketSize; got != tc.want {
			t.Errorf("server: %d, want %d", got, tc.want)
		}
		for _, opts := range []drainOptions{{}, {disabled: true}} {
			got, none := uint16(0), errors.New("no connection")
			_, err := (&Transport{QUICConfig: given}).attempt(context.Background(), "", opts, func(conf *quic.Config) (*quic.Conn, error) {
				got = conf.InitialPacketSize
				return nil, none
			})
			if !errors.Is(err, none) || got != tc.want {
				t.Errorf("client: %d, want %d, %v", got, tc.want, err)
			}
		}
		if given.InitialPacketSize != tc.given {
			t.Errorf("the caller's became %d", given.InitialPacketSize)
		}
	}
}
