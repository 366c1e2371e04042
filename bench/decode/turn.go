package decode

import (
	"runtime"
	"time"
)

// A turner takes the turns of one reader.
type turner struct {
	*reader
	frames int
	time   time.Duration
	batch  int   // passes between looks at the clock, since some are short to that
	out    tally // of the pass under way; here so that no pass pays for its memory
}

// batchTime is how long a batch takes at least.
const batchTime = 200 * time.Microsecond

// newTurner makes a reader ready, and finds how many passes are a batch.
func newTurner(name string, t *transcript, turn time.Duration) (*turner, error) {
	r, err := newReader(name, t)
	if err != nil {
		return nil, err
	}
	u := &turner{reader: r, frames: t.frames, time: turn, batch: 1}
	if err := u.check(); err != nil {
		return nil, err
	}
	for {
		began := time.Now()
		if err := u.passes(u.batch); err != nil {
			return nil, err
		}
		if time.Since(began) >= batchTime {
			return u, nil
		}
		u.batch *= 2
	}
}

// check makes one pass, and looks at every byte that comes out.
func (u *turner) check() error {
	out := digesting()
	if err := u.pass(out); err != nil {
		return err
	}
	return out.differs(u.want)
}

// passes makes some passes, and counts what comes out of each.
func (u *turner) passes(n int) error {
	for range n {
		u.out = tally{}
		if err := u.pass(&u.out); err != nil {
			return err
		}
		if err := u.out.differs(u.want); err != nil {
			return err
		}
	}
	return nil
}

// turn decodes for as long as a turn is. What came out is looked at before and after. cpu
// returns the processor time that the process has used, in seconds.
func (u *turner) turn(cpu func() float64) (res result, err error) {
	runtime.GC() // what was left by the turn before must not be paid for in this one
	if err := u.check(); err != nil {
		return res, err
	}
	allocs, began := mallocs(), cpu()
	passes := 0
	for at := time.Now(); time.Since(at) < u.time; passes += u.batch {
		if err := u.passes(u.batch); err != nil {
			return res, err
		}
	}
	res.CPU = cpu() - began
	res.Allocs = mallocs() - allocs
	res.Frames, res.Bytes = int64(passes)*int64(u.frames), int64(passes)*u.bytes
	return res, u.check()
}

// mallocs counts the objects that were ever on the heap, to the last: runtime/metrics
// leaves out what it has not collected from the processors, which for a turn is much.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
