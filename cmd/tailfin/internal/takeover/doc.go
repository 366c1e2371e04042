// Package takeover TODO
package takeover
