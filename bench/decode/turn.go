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
	batch  int // passes between looks at the clock, since some are short to that
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
		var out tally
		if err := u.pass(&out); err != nil {
			return err
		}
		if err := out.differs(u.want); err != nil {
			return err
		}
	}
	return nil
}

// A usage is what a process has used so far: processor time in seconds and objects
// on the heap.
type usage func() (cpu float64, allocs uint64)

// turn decodes for as long as a turn is. What came out is looked at before and after.
func (u *turner) turn(used usage) (res result, err error) {
	runtime.GC() // what was left by the check before must not be paid for in this turn
	if err := u.check(); err != nil {
		return res, err
	}
	cpu, allocs := used()
	passes := 0
	for began := time.Now(); time.Since(began) < u.time; passes += u.batch {
		if err := u.passes(u.batch); err != nil {
			return res, err
		}
	}
	res.CPU, res.Allocs = used()
	res.CPU, res.Allocs = res.CPU-cpu, res.Allocs-allocs
	res.Frames, res.Bytes = int64(passes)*int64(u.frames), int64(passes)*u.bytes
	return res, u.check()
}
