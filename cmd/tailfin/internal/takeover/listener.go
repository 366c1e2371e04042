package takeover

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/tailfin-quic/tailfin/udp"
)

// Config says what Listen opens.
type Config struct {
	Network string // udp, udp4 or udp6
	Address string // host:port
	Shards  int    // 0 is 1
	// Takeover has Listen take over from the instance that serves the address, if
	// there is one. Without it that is an InUseError.
	Takeover bool
	Options  []udp.Option
	Logger   *slog.Logger          // nil is slog.Default
	Metrics  prometheus.Registerer // nil is none
}

// A Listener is an instance's place among those on its address.
type Listener struct {
	conf    Config
	log     *slog.Logger
	metrics *metrics

	own        uint8 // generation
	keys       Keys
	tickets    *ticketKeys
	lock       *net.UnixListener // nil where instances cannot share an address
	shards     *udp.Shards
	transports []*quic.Transport
	pumping    *pump // before Ready of an instance that takes over

	// For the goroutines that receive, see route:

	serving     atomic.Bool // newcomers are for this instance, or for a newer one
	yielded     atomic.Bool // newcomers are for the newer instance
	closing     atomic.Bool // the connections of this instance are over
	older       atomic.Pointer[link]
	newer       atomic.Pointer[link]
	inspections atomic.Pointer[[]*udp.Inspection] // one a shard, while there is a link
	handshakes  atomic.Int64                      // when a packet of one in progress came last, since epoch

	mu         sync.Mutex // orders changes of the above, and guards what follows
	groups     []udp.Group
	accepting  bool
	closed     bool
	superseded chan struct{} // closed when it is time to shut down
	left       bool          // superseded is closed
	wg         sync.WaitGroup
}

// Listen opens the sockets of an instance. The first on an address may serve at
// once. One that takes over receives from here on what the kernel gives it, and
// passes it to its predecessor until Ready.
func Listen(ctx context.Context, conf Config) (*Listener, error) {
	if conf.Shards == 0 {
		conf.Shards = 1
	}
	if conf.Logger == nil {
		conf.Logger = slog.Default()
	}
	l := &Listener{conf: conf, log: conf.Logger, superseded: make(chan struct{})}
	var err error
	if l.metrics, err = newMetrics(conf.Metrics); err != nil {
		return nil, err
	}
	if err := l.open(ctx); err != nil {
		l.release()
		return nil, err
	}
	l.tickets = newTicketKeys(l.keys.Tickets)
	reset, token := quic.StatelessResetKey(l.keys.StatelessReset), quic.TokenGeneratorKey(l.keys.Token)
	for i, conn := range l.shards.Conns() {
		l.transports = append(l.transports, &quic.Transport{
			Conn: conn, ConnectionIDGenerator: l.shards.ConnectionIDs(i), StatelessResetKey: &reset, TokenGeneratorKey: &token,
		})
	}
	return l, nil
}

// open gets the address, as the first on it or from the instance that has it.
func (l *Listener) open(ctx context.Context) error {
	l.keys = newKeys()
	var first [1]byte
	_, _ = rand.Read(first[:])
	l.own = first[0]
	addr, err := resolve(l.conf.Network, l.conf.Address)
	if err != nil {
		return err
	}
	if !supported {
		return l.bind()
	}
	if addr.Port == 0 { // nobody can have it
		if err := l.bind(); err != nil {
			return err
		}
		if addr, err = resolve(l.conf.Network, withPort(l.conf.Address, l.Addr().Port)); err != nil {
			return err
		}
	}
	lock, conn, err := acquire(ctx, lockName(l.conf.Network, addr))
	if conn != nil && err == nil {
		if conn, err = l.ownUser(conn); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case conn != nil && l.shards != nil:
		_ = conn.Close()
		return fmt.Errorf("port %d was free, but its control socket is not; start again", addr.Port)
	case conn != nil:
		return l.join(ctx, conn)
	}
	l.lock = lock
	if l.shards != nil {
		return nil
	}
	if err := checkFree(l.conf.Network, addr); err != nil {
		return err
	}
	return l.bind()
}

// ownUser returns a connection to an instance, and nil if it is to another user's
// process: only one of ours has a reason to have a name with our user in it. Anybody
// may take a name in the abstract namespace, but nobody else can share the port. So
// that keeps us from handing over only, and not from serving.
func (l *Listener) ownUser(conn *net.UnixConn) (*net.UnixConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p, err := peerOf(raw)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if p.uid == os.Geteuid() {
		return conn, nil
	}
	l.log.Warn("another user's process has our control socket; no instance can take over from this one", "listen", l.conf.Address, "pid", p.pid, "uid", p.uid)
	return nil, conn.Close()
}

// bind opens the sockets.
func (l *Listener) bind() (err error) {
	opts := l.conf.Options
	if supported {
		opts = append(opts[:len(opts):len(opts)], udp.WithGeneration(l.own))
	}
	if l.shards, err = udp.ListenShards(l.conf.Network, l.conf.Address, l.conf.Shards, opts...); err != nil {
		return err
	}
	if supported && l.conf.Shards > 1 && l.older.Load() == nil {
		return l.shards.Steer()
	}
	return nil
}

// Shards are the sockets, for their Stats and Steering.
func (l *Listener) Shards() *udp.Shards { return l.shards }

// Addr is the address of the sockets.
func (l *Listener) Addr() *net.UDPAddr {
	addr, _ := l.shards.Conns()[0].LocalAddr().(*net.UDPAddr)
	return addr
}

// Transports are what to serve on, one a shard. Other fields of theirs may be set
// before they are used. Close closes them.
func (l *Listener) Transports() []*quic.Transport { return l.transports }

// Tickets has conf encrypt its session tickets so that they are good at the
// instances that follow too.
func (l *Listener) Tickets(conf *tls.Config) { l.tickets.use(conf) }

// Superseded is closed when a newer instance has taken over. New connections do not
// come any more: it is time to shut the server down, and then to Close.
func (l *Listener) Superseded() <-chan struct{} { return l.superseded }

// Ready tells that the transports are served: an instance that takes over gets new
// connections from now on, and its predecessor shuts down. After an error only Close
// is of use.
func (l *Listener) Ready(ctx context.Context) error {
	if l.pumping != nil {
		l.pumping.stop()
	}
	l.serving.Store(true)
	if err := l.relieve(ctx); err != nil {
		l.serving.Store(false) // the older instance is
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.startAccepting()
}

// release gives back what a Listener that failed to open has.
func (l *Listener) release() {
	_ = l.Close(canceled())
}

// canceled is a context that is over.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

var errClosed = errors.New("takeover: the Listener is closed")
