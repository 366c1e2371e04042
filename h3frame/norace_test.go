//go:build !race

package h3frame

const raceEnabled = false

// fedByBytes is how much TestBoundedMemory feeds one byte at a time.
const fedByBytes = 32 << 20
