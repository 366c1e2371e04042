package udp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/quic-go/quic-go"
)

// MaxShards is how many shards ListenShards makes at most.
const MaxShards = 256

// Shards are several Conns on one address, for one quic.Transport each, so that
// receiving uses several processors.
//
// A datagram comes to the shard that gave out its connection ID, from whatever
// address: connections survive a NAT that changes their port, and a migration.
// A client's first packets go to one shard by the connection ID that it has
// chosen. The kernel does it, by a program (BPF_PROG_TYPE_SK_REUSEPORT, Linux
// 4.19), where that is permitted. Otherwise it distributes by address and port,
// and what comes to the wrong shard is handed to the right one here, as also
// are datagrams of two connections of one client that the kernel has joined to
// one train.
//
// A stateless reset has no connection ID of ours (RFC 9000 §10.3), and may come
// to a shard that does not know the connection: a client that dials from a shard
// may notice one by its idle timeout only.
type Shards struct {
	conns   []*Conn
	route   routing
	options options

	mu      sync.Mutex // guards what follows
	sockets *socketMap // that the kernel selects from; nil before it was needed
	kernel  bool
	whyHash string
}

// ListenShards opens n sockets on one address (SO_REUSEPORT), each with a
// reader of its own. With port 0 all have the port that the first was given.
//
//	shards, err := udp.ListenShards("udp", ":4433", runtime.GOMAXPROCS(0))
//	for i, conn := range shards.Conns() {
//		tr := &quic.Transport{Conn: conn, ConnectionIDGenerator: shards.ConnectionIDs(i)}
//		…
//	}
//
// Each Transport must have the generator of its shard. WithStrict(true) makes it
// an error that the kernel cannot steer.
func ListenShards(network, address string, n int, opts ...Option) (*Shards, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > MaxShards {
		return nil, fmt.Errorf("udp: %d shards; give 1 to %d", n, MaxShards)
	}
	if n > 1 && !haveShards {
		return nil, fmt.Errorf("udp: several shards need Linux; use one: %w", errors.ErrUnsupported)
	}
	shared := n > 1 || o.generation != noGeneration
	if shared && !haveShards {
		return nil, fmt.Errorf("udp: a generation needs Linux: %w", errors.ErrUnsupported)
	}
	s := &Shards{route: routing{n, o.generation}, options: o}
	for range n {
		c, err := listen(network, address, o, shared)
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("udp: shard %d of %d: %w", len(s.conns)+1, n, err)
		}
		s.conns = append(s.conns, c)
		address = withPort(address, c.LocalAddr())
	}
	if n > 1 {
		for i, c := range s.conns {
			c.main.split.shard = &shard{self: i, all: s.conns, route: s.route}
		}
	}
	switch {
	case o.generation != noGeneration:
		s.whyHash = "not asked to"
	case n == 1:
		s.whyHash = "one shard"
	default:
		if err := s.Steer(); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	return s, nil
}

// withPort is an address with the port of another.
func withPort(address string, of net.Addr) string {
	host, _, err := net.SplitHostPort(address)
	addr, ok := of.(*net.UDPAddr)
	if err != nil || !ok {
		return address
	}
	return net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

var errSteeringOff = errors.New("steering is switched off")

// Steer has the kernel choose the shard of a datagram. It is for shards with a
// generation, and takes those of older processes on the same address, whose
// datagrams go on to come to them. The sockets of all these processes are steered
// by what the last Steer of any said.
//
// That the kernel cannot is no error unless WithStrict(true) was given; Steering
// says why.
func (s *Shards) Steer(older ...Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errSteeringOff
	if s.options.steering {
		err = s.attach(older)
	}
	if s.kernel = err == nil; s.kernel {
		s.whyHash = ""
		return nil
	}
	s.whyHash = err.Error()
	if s.options.strict && s.options.steering {
		return fmt.Errorf("udp: strict, but the kernel does not steer: %w", err)
	}
	return nil
}

// A Group is the shards of a process, as another may have the kernel steer to them.
type Group struct {
	Generation uint8
	Shards     int
	// Sockets is a map of the kernel (BPF_MAP_TYPE_REUSEPORT_SOCKARRAY), to be
	// closed by whoever has it. A descriptor passed by SCM_RIGHTS will do.
	Sockets *os.File
}

// Group returns these shards for Steer of another process. It needs the rights that
// steering needs.
func (s *Shards) Group() (Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.options.steering {
		return Group{}, errSteeringOff
	}
	sockets, err := s.group()
	if err != nil {
		return Group{}, err
	}
	return Group{Generation: uint8(s.route.generation), Shards: len(s.conns), Sockets: sockets}, nil
}

// ShardOf returns the shard that a datagram is for, or false if any will do.
func (s *Shards) ShardOf(payload []byte) (int, bool) { return s.route.shardOf(payload) }

// Conns are the shards.
func (s *Shards) Conns() []*Conn { return s.conns }

// ConnectionIDs makes the connection IDs for the Transport of shard i. They are
// 7 bytes long.
func (s *Shards) ConnectionIDs(i int) quic.ConnectionIDGenerator {
	return connectionIDs{i, s.route}
}

// Steering tells whether the kernel steers by connection ID, and if it does not
// why.
func (s *Shards) Steering() (kernel bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kernel, s.whyHash
}

// Close closes all shards.
func (s *Shards) Close() error {
	var errs []error
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets.close()
	s.sockets = nil
	return errors.Join(errs...)
}
