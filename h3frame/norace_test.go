//go:build !race

package h3frame

const raceEnabled = false
