package uploads

import "bytes"

// answerText is what Requests' handler answers, and its sender expects.
func answerText(size int) []byte {
	const text = "tailfin "
	return bytes.Repeat([]byte(text), size/len(text)+1)[:size]
}
