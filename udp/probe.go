package udp

import (
	"errors"
	"fmt"

	"github.com/tailfin-quic/tailfin/uring"
)

// WantReadBuffer is the receive buffer that quic-go (v0.65.0) asks for, in bytes.
const WantReadBuffer = 7 << 20

// A Report says what this machine offers to a Conn.
type Report struct {
	OS      string `json:"os"`
	Kernel  string `json:"kernel"` // release, empty if it cannot be told
	Backend string `json:"backend"`
	Reason  string `json:"reason"` // why Auto takes that backend

	URing        bool   `json:"io_uring"`
	URingBlocker string `json:"io_uring_blocker,omitempty"` // what blocks it
	URingRemedy  string `json:"io_uring_remedy,omitempty"`

	GRO bool `json:"gro"` // UDP_GRO can be set
	GSO bool `json:"gso"` // UDP_SEGMENT can be set
	ECN bool `json:"ecn"` // the ECN bits of received datagrams can be read

	ReadBufferMax  int `json:"rmem_max"`    // net.core.rmem_max, 0 if unknown
	WriteBufferMax int `json:"wmem_max"`    // net.core.wmem_max
	ReadBuffer     int `json:"read_buffer"` // what a Conn gets that asks for WantReadBuffer
}

// Probe looks at this machine. It opens sockets on loopback for it.
func Probe() (Report, error) {
	r := probeSystem()
	if err := uringWorks(); err != nil {
		r.URingBlocker = err.Error()
		var blocked *uring.BlockedError
		if errors.As(err, &blocked) {
			r.URingRemedy = blocked.Remedy
		}
	} else {
		r.URing = true
	}
	c, err := Listen("udp", "127.0.0.1:0")
	if err != nil {
		return r, fmt.Errorf("open a socket on loopback: %w", err)
	}
	defer func() { _ = c.Close() }()
	r.Backend, r.Reason, r.GRO = c.Backend().String(), c.Reason(), c.GRO()
	r.GSO, r.ECN, r.ReadBuffer = probeSocket(c)
	return r, nil
}
