//go:build race

package h3frame

// raceEnabled tells that sync.Pool drops items at random, so that allocations
// cannot be counted.
const raceEnabled = true
