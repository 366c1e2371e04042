// Package bench measures Tailfin against what people use now.
//
// Every figure comes from real sockets on the loopback interface, and runs
// that are compared are interleaved, so that a machine that drifts drifts for
// both. A row in which the thing to be measured did not happen says so and is
// not counted.
package bench
