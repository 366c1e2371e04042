package udp

import "github.com/tailfin-quic/tailfin/uring"

// A ringReceiver receives through an io_uring.
type ringReceiver struct {
	rx    *uring.Receiver
	addrs addrCache
	ctrl  controlParser

	held  uring.Datagram // given out; its buffer goes back at the next call
	holds bool
	ahead uring.Datagram // taken from the ring by receive, for next
	have  bool
}

// newRingReceiver sets a ring up.
func newRingReceiver(gro bool, buffers int) (*ringReceiver, error) {
	conf := uring.Config{Buffers: buffers}
	if !gro {
		conf.Payload = plainPayload
	}
	rx, err := uring.NewReceiver(conf)
	if err != nil {
		return nil, err
	}
	return &ringReceiver{rx: rx}, nil
}

// next returns the next packet that was received whole.
func (r *ringReceiver) next() (packet, bool) {
	r.recycle()
	d, ok := r.ahead, r.have
	if r.have = false; !ok {
		if d, ok = r.rx.Next(); !ok {
			return packet{}, false
		}
	}
	r.held, r.holds = d, true
	control, segment := r.ctrl.parse(d.Control)
	return packet{addr: r.addrs.lookup(d.Name), payload: d.Payload, segment: segment, control: control}, true
}

func (r *ringReceiver) recycle() {
	if r.holds {
		r.rx.Recycle(r.held)
		r.holds = false
	}
}

// receive takes what is in the socket, up to the number of buffers.
func (r *ringReceiver) receive(fd int) (int, error) {
	r.recycle()
	for {
		if err := r.rx.Receive(fd); err != nil {
			return 0, err
		}
		if r.ahead, r.have = r.rx.Next(); r.have {
			// What is left may end with a completion that is no datagram.
			return max(1, r.rx.Pending()), nil
		}
		if r.rx.Drained() {
			return 0, nil
		}
		// It brought an error of the socket, or only what had to be dropped. Many
		// errors in a row are one of Receive.
	}
}

// drained tells whether the last receive came to the end of the socket's queue.
func (r *ringReceiver) drained() bool { return r.rx.Drained() }

func (r *ringReceiver) free() { _ = r.rx.Close() }
