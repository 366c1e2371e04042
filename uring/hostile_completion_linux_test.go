//go:build linux && !nouring && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package uring

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// maxRounds is more receives than any fault may take to be ridden out or reported.
const maxRounds = 4 * maxFailures

var errForEver = errors.New("neither an error nor the end of the queue")

// drive receives as package udp does: until the queue's end, or an error. It returns
// what came, and wants each buffer to have one owner all the time.
func drive(t testing.TB, r *Receiver) (got []string, err error) {
	t.Helper()
	var held uint32
	owned := func() {
		t.Helper()
		if err := owners(r.bufs, held); err != nil {
			t.Error(err)
		}
	}
	for range maxRounds {
		if err := r.Receive(3); err != nil {
			return got, err
		}
		for d, ok := r.Next(); ok; d, ok = r.Next() {
			held = 1 << d.id
			owned()
			got = append(got, string(d.Payload))
			r.Recycle(d)
			r.Recycle(d) // once too often
			held = 0
			owned()
		}
		owned()
		if r.Drained() {
			return got, nil
		}
	}
	return got, errForEver
}

// A completionFault is what a fakeKernel does, and what has to come of it.
type completionFault struct {
	name string
	conf Config
	do   func(k *fakeKernel)
	err  error    // of the receives; nil if it is ridden out
	got  []string // nil if it does not matter
	want func(Stats) bool
	keep bool // the memory stays mapped after Close
}

// numbered are the datagrams that fakeKernel.honest brings.
func numbered(first, n int) []string {
	list := []string{}
	for i := range n {
		list = append(list, fmt.Sprintf("datagram %d", first+i))
	}
	return list
}

// lie brings two datagrams, of which the first is changed, and then the queue's end.
func lie(change func(c *completion, b []byte)) func(*fakeKernel) {
	return func(k *fakeKernel) {
		k.play = func(receive int) {
			if receive > 0 {
				k.end(unix.EAGAIN)
				return
			}
			c, b, _ := k.fill("damaged")
			change(&c, b)
			k.post(c)
			k.honest(1, 1)
		}
	}
}

// says is lie for the io_uring_recvmsg_out of the first.
func says(change func(o *recvmsgOut)) func(*fakeKernel) {
	return lie(func(_ *completion, b []byte) { change((*recvmsgOut)(unsafe.Pointer(&b[0]))) })
}

func completionFaults() []completionFault {
	var list []completionFault
	add := func(f completionFault) { list = append(list, f) }
	dropped := func(s Stats) bool { return s.Truncated == 1 && s.Failed == 0 }

	// What io_uring_enter(2) and recvmsg(2) give, and what they do not.
	for errno := unix.Errno(1); errno <= 133; errno++ {
		name := fmt.Sprintf("%d (%s)", int(errno), unix.ErrnoName(errno))
		if errno != unix.EINTR && errno != unix.EBUSY { // which are not as the others, see below
			add(completionFault{name: "enter with " + name, err: errno,
				do: func(k *fakeKernel) { k.errs = []error{errno} }})
		}
		if errno == unix.EAGAIN {
			continue // ends a receive as it should
		}
		add(completionFault{name: "completion with " + name + " once", got: numbered(1, 2),
			do: func(k *fakeKernel) {
				k.play = func(receive int) {
					if receive == 0 {
						k.end(errno)
						return
					}
					k.honest(1, 2)
				}
			},
			want: func(s Stats) bool { return s.Failed == 1 }})
		add(completionFault{name: "completion with " + name + " for ever", err: errno,
			do: func(k *fakeKernel) { k.play = func(int) { k.end(errno) } }})
		add(completionFault{name: "completion with " + name + " and a buffer", err: errno,
			do: func(k *fakeKernel) {
				k.play = func(int) {
					if c, _, ok := k.fill("failed"); ok {
						k.post(completion{res: -int32(errno), flags: c.flags &^ cqeFMore})
					}
				}
			}})
	}
	for _, res := range []int32{math.MinInt32, -4096, -134} {
		add(completionFault{name: fmt.Sprintf("completion with %d for ever", res), err: unix.Errno(-res),
			do: func(k *fakeKernel) { k.play = func(int) { k.post(completion{res: res}) } }})
	}
	repeat := func(n int, err error) []error {
		list := make([]error, n)
		for i := range list {
			list[i] = err
		}
		return list
	}
	honest := func(n int) func(*fakeKernel) {
		return func(k *fakeKernel) { k.play = func(int) { k.honest(0, n) } }
	}
	with := func(do func(*fakeKernel), more func(k *fakeKernel)) func(*fakeKernel) {
		return func(k *fakeKernel) { do(k); more(k) }
	}
	add(completionFault{name: "enter interrupted", got: numbered(0, 3),
		do: with(honest(3), func(k *fakeKernel) { k.errs = repeat(5, unix.EINTR) })})
	add(completionFault{name: "enter interrupted for ever", err: unix.EINTR,
		do: with(honest(3), func(k *fakeKernel) { k.errs = repeat(1000, unix.EINTR) })})
	// Without a completion to take it would stay so for ever; the caller decides for how long.
	add(completionFault{name: "enter busy, and nothing to take", err: unix.EBUSY,
		do: with(honest(3), func(k *fakeKernel) { k.errs = repeat(1000, unix.EBUSY) })})
	add(completionFault{name: "submission not taken for ever", err: ErrInconsistent,
		do: with(honest(3), func(k *fakeKernel) { k.took = func(int) int { return 0 } })})
	add(completionFault{name: "more submissions taken than there are", err: ErrInconsistent,
		do: with(honest(3), func(k *fakeKernel) { k.took = func(n int) int { return n + 1 } })})

	add(completionFault{name: "each completion ends the receive", got: numbered(0, 9),
		do: func(k *fakeKernel) {
			k.play = func(receive int) {
				if receive == 9 {
					k.end(unix.EAGAIN)
					return
				}
				c, _, _ := k.fill(numbered(receive, 1)[0])
				k.post(completion{res: c.res, flags: c.flags &^ cqeFMore})
			}
		}})
	add(completionFault{name: "a receive without an end", err: ErrLeftOpen, got: numbered(1, 1), keep: true,
		do: func(k *fakeKernel) {
			k.play = func(int) { c, _, _ := k.fill("datagram 1"); k.post(c) }
		}})
	add(completionFault{name: "an end that says there is more", err: ErrLeftOpen, keep: true,
		do: func(k *fakeKernel) {
			k.play = func(int) { k.post(completion{res: -int32(unix.EAGAIN), flags: cqeFMore}) }
		}})
	add(completionFault{name: "no completion", err: ErrLeftOpen, keep: true,
		do: func(k *fakeKernel) { k.play = func(int) {} }})
	add(completionFault{name: "no buffers for ever, though there are", err: unix.ENOBUFS,
		do:   func(k *fakeKernel) { k.play = func(int) { k.end(unix.ENOBUFS) } },
		want: func(s Stats) bool { return s.NoBuffers == 0 && s.Failed == maxFailures }})
	add(completionFault{name: "buffers used up", got: numbered(0, 6), conf: Config{Buffers: 4},
		do:   func(k *fakeKernel) { k.play = endsAfter(k, 6) },
		want: func(s Stats) bool { return s.NoBuffers == 1 && s.Failed == 0 }})

	for name, change := range map[string]func(c *completion, b []byte){
		"no buffer":                  func(c *completion, _ []byte) { c.flags &^= cqeFBuffer },
		"no buffer, 0 bytes":         func(c *completion, _ []byte) { *c = completion{flags: cqeFMore} },
		"a buffer of another's turn": func(c *completion, _ []byte) { c.flags += 1 << 16 },
		"a buffer beyond the last":   func(c *completion, _ []byte) { c.flags |= 16 << 16 },
		"buffer 65535":               func(c *completion, _ []byte) { c.flags |= 0xffff << 16 },
	} {
		add(completionFault{name: "datagram in " + name, err: ErrInconsistent, do: lie(change)})
	}
	for name, change := range map[string]func(c *completion, b []byte){
		"more than the buffer":         func(c *completion, b []byte) { c.res = int32(len(b)) + 1 },
		"2³¹-1 bytes":                  func(c *completion, _ []byte) { c.res = math.MaxInt32 },
		"less than the header":         func(c *completion, _ []byte) { c.res = int32(recvmsgOutLen) - 1 },
		"less than the header's parts": func(c *completion, _ []byte) { c.res = int32(recvmsgOutLen + nameLen) },
		"nothing":                      func(c *completion, _ []byte) { c.res = 0 },
		"a byte more":                  func(c *completion, _ []byte) { c.res++ },
		"a byte less":                  func(c *completion, _ []byte) { c.res-- },
	} {
		add(completionFault{name: "datagram of " + name, do: lie(change), got: numbered(1, 1), want: dropped})
	}
	for name, change := range map[string]func(o *recvmsgOut){
		"a payload of 0":              func(o *recvmsgOut) { o.payloadlen = 0 },
		"a payload of a byte more":    func(o *recvmsgOut) { o.payloadlen++ },
		"a payload of 2³¹":            func(o *recvmsgOut) { o.payloadlen = 1 << 31 },
		"a payload of 2³²-1":          func(o *recvmsgOut) { o.payloadlen = math.MaxUint32 },
		"a name of 33":                func(o *recvmsgOut) { o.namelen = nameLen + 1 },
		"a name of 2³¹":               func(o *recvmsgOut) { o.namelen = 1 << 31 },
		"a name of 2³²-1":             func(o *recvmsgOut) { o.namelen = math.MaxUint32 },
		"control data of 257":         func(o *recvmsgOut) { o.controllen = DefaultControl + 1 },
		"control data of 2³¹":         func(o *recvmsgOut) { o.controllen = 1 << 31 },
		"control data of 2³²-1":       func(o *recvmsgOut) { o.controllen = math.MaxUint32 },
		"that it is cut off":          func(o *recvmsgOut) { o.flags = unix.MSG_TRUNC },
		"that its control is cut off": func(o *recvmsgOut) { o.flags = unix.MSG_CTRUNC },
	} {
		add(completionFault{name: "datagram that says " + name, do: says(change), got: numbered(1, 1), want: dropped})
	}

	add(completionFault{name: "completion of a datagram twice", err: ErrInconsistent, got: numbered(0, 1),
		do: func(k *fakeKernel) {
			k.play = func(int) { c, _, _ := k.fill("datagram 0"); k.post(c); k.post(c); k.end(unix.EAGAIN) }
		}})
	add(completionFault{name: "end twice", err: ErrInconsistent, got: numbered(0, 1),
		do: func(k *fakeKernel) {
			k.play = func(int) { k.honest(0, 1); k.end(unix.EAGAIN) }
		}})
	add(completionFault{name: "completion of no receive", err: ErrInconsistent, got: []string{},
		do: func(k *fakeKernel) { c, _, _ := k.fill("nobody's"); k.post(c) }})
	for name, jump := range map[string]uint32{"a ring and one": 66, "2³¹": 1 << 31, "-1": math.MaxUint32} {
		add(completionFault{name: "tail of the completions moved by " + name, err: ErrInconsistent,
			do: func(k *fakeKernel) {
				k.play = func(int) { k.honest(0, 1) }
				k.word(fakeCQTail).Add(jump)
			}})
	}
	add(completionFault{name: "completion ring full", conf: Config{Buffers: 32, Completions: 1}, got: numbered(0, 30),
		do:   func(k *fakeKernel) { k.play = endsAfter(k, 30) },
		want: func(s Stats) bool { return s.Overflows > 0 }})
	add(completionFault{name: "overflow told all the time", got: numbered(0, 30),
		do: func(k *fakeKernel) {
			play := endsAfter(k, 30)
			k.play = func(n int) { play(n); k.word(fakeSQFlags).Store(^uint32(0)) }
		}})
	add(completionFault{name: "overflow told, and nothing comes", err: unix.EBUSY, keep: true,
		do: func(k *fakeKernel) {
			k.play = func(int) { k.word(fakeSQFlags).Store(sqCQOverflow) }
			k.errs = make([]error, 1, maxRounds)
			for range maxRounds {
				k.errs = append(k.errs, unix.EBUSY) // the flag stays
			}
		}})
	add(completionFault{name: "counters wrap", got: numbered(0, 500),
		do: func(k *fakeKernel) { k.play = endsAfter(k, 500) }})
	return list
}

// endsAfter brings n datagrams by as many receives as it takes.
func endsAfter(k *fakeKernel, n int) func(int) {
	sent := 0
	return func(int) {
		for ; sent < n; sent++ {
			c, _, ok := k.fill(numbered(sent, 1)[0])
			if !ok {
				return
			}
			k.post(c)
		}
		k.end(unix.EAGAIN)
	}
}

// TestHostileCompletions has a kernel that fails in all ways and lies in many.
func TestHostileCompletions(t *testing.T) {
	row := hostile.Result{Kind: "kernel", Fault: "completions that fail or lie: errnos, lengths, buffers, order, overflow, ends"}
	reported, dropped := 0, uint64(0)
	for _, f := range completionFaults() {
		row.Tries++
		func() {
			defer func() {
				if p := recover(); p != nil {
					row.Crashed++
					t.Errorf("%s: %v\n%s", f.name, p, debug.Stack())
				}
			}()
			r, k := fakeReceiver(t, f.conf)
			f.do(k)
			got, err := drive(t, r)
			switch {
			case err != nil && errors.Is(err, errForEver):
				row.Crashed++
				t.Errorf("%s: it goes on for ever", f.name)
			case !errors.Is(err, f.err) || (err == nil) != (f.err == nil):
				row.Lost++
				t.Errorf("%s: error %v, want %v", f.name, err, f.err)
			}
			if f.got != nil && fmt.Sprint(got) != fmt.Sprint(f.got) {
				row.Corrupt++
				t.Errorf("%s: %q came, want %q", f.name, got, f.got)
			}
			if err != nil {
				reported++
			}
			st := r.Stats()
			dropped += st.Truncated
			if f.want != nil && !f.want(st) {
				t.Errorf("%s: %+v", f.name, st)
			}
			broken := r.broken != nil
			if _, ok := r.Next(); ok || broken && (r.Pending() != 0 || r.Drained() || !errors.Is(r.Receive(3), f.err)) {
				t.Errorf("%s: a ring that is broken works on", f.name)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
			if kept := r.bufs.bufs != nil; kept != f.keep || !k.closed || k.ring.mem != nil {
				row.Leaked++
				t.Errorf("%s: buffers kept: %v, want %v", f.name, kept, f.keep)
			}
			if f.keep {
				r.bufs.unmap() // nothing is under way in truth
				unmap(&r.msgMem)
			}
		}()
	}
	row.Bound = fmt.Sprintf("%d faults are errors of Receive, %d ridden out with %d datagrams dropped (truncated); at most %d receives in a row fail",
		reported, row.Tries-reported, dropped, maxFailures)
	row.Report(t)
}

// TestReaderKeepsBuffers has a kernel that names a buffer while the reader holds it.
func TestReaderKeepsBuffers(t *testing.T) {
	r, k := fakeReceiver(t, Config{Buffers: 4})
	k.play = func(int) { k.honest(0, 1) }
	if err := r.Receive(3); err != nil {
		t.Fatal(err)
	}
	d, ok := r.Next()
	if !ok {
		t.Fatal("nothing came")
	}
	if _, ok := r.Next(); ok || !r.Drained() {
		t.Fatal("the end did not come")
	}
	held := string(d.Payload)
	k.play = func(int) {
		k.post(completion{res: int32(recvmsgOutLen + nameLen + DefaultControl), flags: uint32(d.id)<<16 | cqeFBuffer | cqeFMore})
		k.end(unix.EAGAIN)
	}
	if err := r.Receive(3); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Next(); ok || r.Drained() {
		t.Fatal("the reader has a buffer twice")
	}
	if err := r.Receive(3); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("Receive: %v", err)
	}
	if string(d.Payload) != held {
		t.Error("the datagram changed")
	}
	if err := owners(r.bufs, 1<<d.id); err != nil {
		t.Error(err)
	}
	r.Recycle(d)
	if err := owners(r.bufs, 0); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.Recycle(d)
	if err := r.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// TestUntakenReceive has the kernel refuse a receive, and the caller try another
// socket: that is the one which is received from.
func TestUntakenReceive(t *testing.T) {
	r, k := fakeReceiver(t, Config{Buffers: 4})
	k.errs = []error{unix.EAGAIN, unix.ENOMEM}
	k.play = func(int) { k.honest(0, 1) }
	for _, want := range k.errs {
		if err := r.Receive(3); !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		if _, ok := r.Next(); ok || r.Drained() {
			t.Fatal("something came, or the queue was drained")
		}
	}
	if err := r.Receive(4); err != nil {
		t.Fatal(err)
	}
	if d, ok := r.Next(); !ok || string(d.Payload) != "datagram 0" || k.fd != 4 || k.receives != 1 {
		t.Errorf("%q from socket %d by %d receives", d.Payload, k.fd, k.receives)
	}
	if st := r.Stats(); st.Rearms != 1 || st.Enters != 3 {
		t.Errorf("%+v", st)
	}
	// What is there is to be taken first: this is no receive.
	if err := r.Receive(5); err != nil || k.receives != 1 {
		t.Errorf("%v, %d receives", err, k.receives)
	}
}

// TestCloseLeavesWhatIsUnderWay closes a Receiver whose receive goes on, which Next
// was not asked about: its memory must stay. One whose end Next has not seen is over.
func TestCloseLeavesWhatIsUnderWay(t *testing.T) {
	for _, tc := range []struct {
		conf Config
		end  bool
	}{{Config{}, false}, {Config{}, true}, {Config{Buffers: 32, Completions: 1}, true}, {Config{Buffers: 32, Completions: 1}, false}} {
		r, k := fakeReceiver(t, tc.conf)
		k.play = func(int) {
			for range 5 {
				c, _, _ := k.fill("x")
				k.post(c)
			}
			if tc.end {
				k.end(unix.EAGAIN)
			}
		}
		if err := r.Receive(3); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if kept := r.bufs.bufs != nil; kept == tc.end {
			t.Errorf("%+v: memory kept: %v", tc, kept)
		}
		if !tc.end {
			r.bufs.unmap()
			unmap(&r.msgMem)
		}
	}
}
