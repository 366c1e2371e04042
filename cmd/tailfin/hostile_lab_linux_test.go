package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/bench/hostile"
	"github.com/tailfin-quic/tailfin/bench/netlab"
)

// A labCase is what a path does while files are put and got over it.
type labCase struct {
	fault   string
	profile netlab.Profile
	size    int      // of each file, in bytes, in a usual run
	flags   []string // of put and get

	// meanwhile does something to the path when all have begun; nil for nothing.
	meanwhile func(*labPath) error

	// happened says whether the fault has happened at all, with figures.
	happened func(labSeen) (figures string, ok bool)

	fails bool // transfers may fail, since nothing gets through any more
	fins  labFins
	few   int // uploads with --close-after-fin in a usual run; in full there are more
}

// labFins says what becomes of uploads with --close-after-fin.
type labFins int

const (
	finsNone  labFins = iota // there are none
	finsAny                  // each is stored whole or not at all
	finsWhole                // all are stored, since no packet is lost
)

// A labVariant is what a labCase is tried with.
type labVariant struct {
	ipv6     bool
	backend  string // of both ends
	put, get bool   // what is done
}

// labVariants are those of the nth case: in a usual run one, such that with some cases each
// family, backend and command has its turn, and in full all.
func labVariants(n int, ring string) []labVariant {
	bit := func(i int) bool { return n>>i&1 == 1 }
	backends := map[bool]string{false: "mmsg", true: ring}
	if hostile.Size(0, 1) == 0 {
		return []labVariant{{bit(0), backends[bit(1)], !bit(2), bit(2)}}
	}
	var list []labVariant
	for _, ipv6 := range []bool{false, true} {
		for _, b := range backends {
			list = append(list, labVariant{ipv6, b, true, true})
		}
	}
	return list
}

// labBoth is a path that is the same in both directions.
func labBoth(d netlab.Direction) netlab.Profile {
	return netlab.Profile{Emulator: netlab.Wire, Forward: d, Back: d}
}

// labCounted is for a fault that the wire counts.
func labCounted(what string, of func(netlab.Counters) uint64) func(labSeen) (string, bool) {
	return func(s labSeen) (string, bool) {
		n := s.sum(of)
		return fmt.Sprintf("%d of %d packets %s", n, s.packets(), what), n > 0
	}
}

// labAll is for a fault that is several.
func labAll(faults ...func(labSeen) (string, bool)) func(labSeen) (string, bool) {
	return func(s labSeen) (string, bool) {
		var figures []string
		happened := true
		for _, f := range faults {
			text, ok := f(s)
			figures, happened = append(figures, text), happened && ok
		}
		return strings.Join(figures, ", "), happened
	}
}

// labLargest is for a path that takes packets of up to so many bytes: some were close to it.
func labLargest(most uint64) func(labSeen) (string, bool) {
	const least = 1200 // what QUIC may take for granted (RFC 9000 §14)
	return func(s labSeen) (string, bool) {
		largest := uint64(0)
		for _, p := range s.paths {
			largest = max(largest, p.Forward.Largest, p.Back.Largest)
		}
		return fmt.Sprintf("largest packet %d bytes", largest), largest > least && largest <= most
	}
}

var (
	labLost        = labCounted("lost", func(c netlab.Counters) uint64 { return c.Lost })
	labHeldBack    = labCounted("held back", func(c netlab.Counters) uint64 { return c.HeldBack })
	labDuplicated  = labCounted("duplicated", func(c netlab.Counters) uint64 { return c.Duplicated })
	labJittered    = labCounted("jittered", func(c netlab.Counters) uint64 { return c.Jittered })
	labOverflowed  = labCounted("found the queue full", func(c netlab.Counters) uint64 { return c.Overflowed })
	labTooBig      = labCounted("too big", func(c netlab.Counters) uint64 { return c.TooBig })
	labInterrupted = labCounted("sent into the void", func(c netlab.Counters) uint64 { return c.Interrupted })
	labUnmapped    = labCounted("to a mapping that is forgotten", func(c netlab.Counters) uint64 { return c.Unmapped })
)

func labRebound(s labSeen) (string, bool) {
	return fmt.Sprintf("rebound %d times", s.rebinds), s.rebinds >= 2*len(s.paths)
}

// labFollowed is for transfers that may need another attempt, but not all of them.
func labFollowed(s labSeen) (string, bool) {
	return fmt.Sprintf("%d of %d transfers went on where they were", s.atOnce, s.transfers), s.atOnce > 0
}

func labResumed(s labSeen) (string, bool) {
	return fmt.Sprintf("%d attempts", s.attempts), s.attempts > s.transfers
}

func labGaveUp(s labSeen) (string, bool) {
	return "the path is gone for good", s.failed > 0
}

// labAtOnce is how many transfers there are at a time, of either kind.
const labAtOnce = 2

// labEnough is how many packets have passed when a path changes: the transfers are in the middle.
const labEnough = 300

// labInterruptFor has nothing get through for a while.
func labInterruptFor(d time.Duration) func(*labPath) error {
	return func(x *labPath) error {
		if err := x.untilPassed(labEnough); err != nil {
			return err
		}
		if err := x.lab.Interrupt(true); err != nil {
			return err
		}
		time.Sleep(d) // this is the fault
		return x.lab.Interrupt(false)
	}
}

// labGoneForGood has nothing get through until all have given up.
func labGoneForGood(x *labPath) error {
	if err := x.untilPassed(labEnough); err != nil {
		return err
	}
	if err := x.lab.Interrupt(true); err != nil {
		return err
	}
	x.wait()
	return x.lab.Interrupt(false)
}

// labRebind has the NAT forget its mappings again and again. Clients have some round trips in
// between: quic-go's server (v0.65.0) runs out of connection IDs, and never answers again,
// if a client moves for the third time before it has proved to be at the first address; and
// it follows none whose handshake is under way. A busy machine may make that happen, and the
// client try again.
func labRebind(x *labPath) error {
	const pause, most = 600 * time.Millisecond, 8
	for kinds := []netlab.Rebinding{netlab.RebindPort, netlab.RebindAddress}; x.seen.rebinds < most; x.seen.rebinds++ {
		time.Sleep(pause)
		if err := x.untilPassed(labEnough); err != nil || !x.busy() {
			return err
		}
		if err := x.lab.Rebind(kinds[x.seen.rebinds%len(kinds)]); err != nil {
			return err
		}
	}
	return nil
}

func labCases() []labCase {
	const (
		ms    = time.Millisecond
		lossy = 5 * ms // each way
	)
	slow := netlab.Direction{Delay: 5 * ms, Rate: 8e6}
	down := time.Duration(hostile.Size(1, 5)) * time.Second
	impatient := []string{"--idle-timeout", "1s"}
	nat := labBoth(netlab.Direction{Delay: 5 * ms, Rate: 10e6})
	nat.NAT = true
	narrow := labBoth(netlab.Direction{Delay: lossy})
	narrow.MTU = 1280
	return []labCase{
		{fault: "1 % loss", profile: labBoth(netlab.Direction{Delay: lossy, Loss: 0.01}), size: 1 << 20, happened: labLost, fins: finsAny},
		{fault: "5 % loss", profile: labBoth(netlab.Direction{Delay: lossy, Loss: 0.05}), size: 256 << 10, happened: labLost, fins: finsAny, few: 10},
		{fault: "20 % loss", profile: labBoth(netlab.Direction{Delay: lossy, Loss: 0.2}), size: 64 << 10, happened: labLost, fins: finsAny, few: 10},
		{fault: "reordering of 5 %", profile: labBoth(netlab.Direction{Delay: lossy, Reorder: 0.05, HoldBack: 5 * ms}), size: 512 << 10, happened: labHeldBack, fins: finsAny},
		{fault: "duplicates of 10 %", profile: labBoth(netlab.Direction{Delay: lossy, Duplicate: 0.1}), size: 512 << 10, happened: labDuplicated, fins: finsWhole, few: 10},
		{fault: "jitter of 10 ms", profile: labBoth(netlab.Direction{Delay: lossy, Jitter: 10 * ms}), size: 256 << 10, happened: labJittered, fins: finsWhole},
		{fault: "20 Mbit/s and a queue of 32 kB", profile: labBoth(netlab.Direction{Delay: lossy, Rate: 20e6, Queue: 32 << 10}), size: 1 << 20, happened: labOverflowed},
		{fault: "MTU 1280", profile: narrow, size: 1 << 20, happened: labLargest(1280)},
		{fault: "packets above 1300 bytes vanish", profile: labBoth(netlab.Direction{Delay: lossy, BlackHole: 1300}), size: 512 << 10, happened: labAll(labTooBig, labLargest(1300))},
		{
			fault:   "loss, reordering, duplicates of 2 % each, and 5 ms jitter",
			profile: labBoth(netlab.Direction{Delay: lossy, Loss: 0.02, Reorder: 0.02, HoldBack: 5 * ms, Duplicate: 0.02, Jitter: 5 * ms}),
			size:    256 << 10, happened: labAll(labLost, labHeldBack, labDuplicated, labJittered), fins: finsAny,
		},
		{
			fault: fmt.Sprintf("nothing gets through for %v, amid transfers", down), profile: labBoth(slow), size: 512 << 10,
			meanwhile: labInterruptFor(down), happened: labInterrupted,
		},
		{
			fault: "nothing gets through any more, amid transfers", profile: labBoth(slow), size: 512 << 10, flags: impatient,
			meanwhile: labGoneForGood, happened: labAll(labInterrupted, labGaveUp), fails: true,
		},
		{
			fault: "nothing gets through for longer than --idle-timeout, with --retries", profile: labBoth(slow), size: 512 << 10,
			flags:     slices.Concat(impatient, []string{"--retries", "50", "--retry-wait", "100ms"}),
			meanwhile: labInterruptFor(2500 * ms), happened: labAll(labInterrupted, labResumed),
		},
		{
			fault: "a NAT forgets its mappings, amid transfers", profile: nat, size: 3 << 19,
			flags:     []string{"--idle-timeout", "9s", "--retries", "10"},
			meanwhile: labRebind, happened: labAll(labRebound, labUnmapped, labFollowed),
		},
	}
}

// TestHostileLab puts and gets files over bad networks, by `tailfin` in namespaces of their
// own, at the same time.
func TestHostileLab(t *testing.T) {
	t.Parallel()
	backends := serveBackends(t)
	ring := backends[len(backends)-1] // io_uring, where there is any
	for i, c := range labCases() {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			row := hostile.Result{Kind: "network", Fault: c.fault}
			var seen labSeen
			for n, v := range labVariants(i, ring) {
				c.profile.Name, c.profile.Seed = c.fault, uint64(n+1)
				one := c.run(t, v, &row)
				if figures, ok := c.happened(one); !ok {
					t.Errorf("%+v: the fault has not happened: %s", v, figures)
				}
				seen.add(one)
			}
			row.Bound = seen.bound(&c)
			row.Report(t)
		})
	}
}

// run puts and gets, at the same time, and checks what has come of it.
func (c *labCase) run(t *testing.T, v labVariant, row *hostile.Result) labSeen {
	t.Helper()
	count, size := hostile.Size(labAtOnce, 2*labAtOnce), hostile.Size(c.size, 2*c.size)
	if c.meanwhile != nil { // all are to be in the middle
		count, size = labAtOnce, hostile.Size(c.size, 4*c.size)
	}
	x := openLabPath(t, c.profile, v)
	k := &labCheck{x, c, row}
	dir := t.TempDir()
	file, copied := filepath.Join(dir, "file"), filepath.Join(dir, "copy")
	sent := labFile(t, file, size, 1)
	stored := labFile(t, filepath.Join(x.dir, "stored"), size, 2)
	common := []string{"--insecure", "--json", "-v", "--backend", v.backend}
	transfer := slices.Concat(common, []string{"-P", fmt.Sprint(labAtOnce), "--count", fmt.Sprint(count)}, c.flags)
	var put, get, fin *labRun
	if v.put {
		put = x.start(append([]string{"put", file, x.url("put")}, transfer...)...)
	}
	if v.get {
		get = x.start(append([]string{"get", x.url("stored"), "-o", copied}, transfer...)...)
	}
	if c.meanwhile != nil {
		x.untilRequested(labAtOnce * len(x.runs))
		if err := c.meanwhile(x); err != nil {
			t.Error(err)
		}
	}
	x.wait()
	fins, small := hostile.Size(c.few, 50), ""
	if c.fins != finsNone && fins > 0 {
		const packets = 9000 // bytes that make some
		name := filepath.Join(dir, "small")
		small = labFile(t, name, packets, 3)
		fin = x.start(slices.Concat([]string{"put", name, x.url("fin"), "--close-after-fin", "-P", "10", "--count", fmt.Sprint(fins)}, common)...)
		x.wait()
		x.finsArrive(c, fins)
	}
	stats, err := x.lab.Stats()
	if err != nil {
		t.Error(err)
	}
	x.seen.paths = append(x.seen.paths, stats)
	k.stopped(".incoming", ".uploads", "stored", "put-", "fin-")
	if put != nil {
		k.puts(put, count, sent)
	}
	if get != nil {
		k.gets(get, count, stored, copied)
	}
	if fin != nil {
		k.fins(fin, fins, small)
	}
	return x.seen
}

// finsArrive waits until what is under way has arrived: all of the uploads, if none of their
// packets is lost.
func (x *labPath) finsArrive(c *labCase, n int) {
	wait := 200 * time.Millisecond
	if c.fins == finsWhole {
		wait = patience
	}
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if names, _ := filepath.Glob(filepath.Join(x.dir, "fin-*")); len(names) == n {
			return
		}
	}
}
