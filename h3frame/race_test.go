//go:build race

package h3frame

// raceEnabled tells that sync.Pool drops items at random, so that allocations
// cannot be counted.
const raceEnabled = true

// fedByBytes is how much TestBoundedMemory feeds one byte at a time.
const fedByBytes = 1 << 20
