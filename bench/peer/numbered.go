package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// numberedPrefix begins the path of a numbered message: /numbered/ID/SIZE.
const numberedPrefix = "/numbered/"

const (
	// MinNumbered is the size of the smallest Numbered: its number.
	MinNumbered = 8
	// maxNumbered bounds what a path can ask for.
	maxNumbered = 64 << 20
)

// NumberedPath is the path of a Numbered of size bytes.
func NumberedPath(id uint64, size int) string {
	return fmt.Sprintf("%s%d/%d", numberedPrefix, id, size)
}

// Numbered returns a body of size bytes that no other number has: the number, in eight
// bytes, and a pattern that begins elsewhere for each.
func Numbered(id uint64, size int) []byte {
	p := make([]byte, size)
	binary.BigEndian.PutUint64(p, id)
	for i := MinNumbered; i < size; i++ {
		p[i] = numberedByte(id, i)
	}
	return p
}

func numberedByte(id uint64, i int) byte {
	at := uint64(i) + id*31
	return byte(at*7 + at>>8)
}

// BeginsNumbered tells whether body is what a Numbered begins with.
func BeginsNumbered(id uint64, body []byte) bool {
	if first, ok := NumberOf(body); !ok || first != id {
		return false
	}
	for i := MinNumbered; i < len(body); i++ {
		if body[i] != numberedByte(id, i) {
			return false
		}
	}
	return true
}

// NumberOf is the number that a body begins with.
func NumberOf(body []byte) (id uint64, ok bool) {
	if len(body) < MinNumbered {
		return 0, false
	}
	return binary.BigEndian.Uint64(body), true
}

func parseNumbered(rest string) (id uint64, size int, err error) {
	first, second, _ := strings.Cut(rest, "/")
	if id, err = strconv.ParseUint(first, 10, 64); err != nil {
		return 0, 0, err
	}
	if size, err = strconv.Atoi(second); err != nil {
		return 0, 0, err
	}
	if size < MinNumbered || size > maxNumbered {
		return 0, 0, errors.New("no such size")
	}
	return id, size, nil
}
