//go:build race

package receiver

// underRace tells that the race detector makes everything some ten times slower.
const underRace = true
