package tailfin

import (
	"net/http"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// A serverStream is one request at a server and its answer: all that is needed for it
// besides the two ends of the stream, in one piece of memory. Handlers may hold on to
// parts of it, so that it is not used again.
type serverStream struct {
	conn   *serverConn
	str    acceptedStream
	msg    h3frame.MessageDecoder
	src    messageSource
	body   messageBody
	ctx    requestContext
	answer responseWriter
	ends   atomic.Int32 // of what a good end takes: all was written, and its last was sent
}

// ended counts one of the two, and reports whether it was the second.
func (x *serverStream) ended() bool { return x.ends.Add(1) == 2 }

func newServerStream(c *serverConn, str acceptedStream) *serverStream {
	x := &serverStream{conn: c, str: str}
	x.msg.InitRequest(h3frame.Limits{MaxFieldSectionSize: c.server.maxHeaderBytes()})
	x.src.init(str.recv, &x.msg)
	x.src.wasted = c.h3.wasted
	return x
}

// respond makes the answer's writer.
func (x *serverStream) respond(method string, flow *datagramFlow) *responseWriter {
	x.answer.init(x.conn.h3, x.str, method)
	x.answer.flow = flow
	return &x.answer
}

var _ endWatcher = (*serverStream)(nil)

// endSent ends the request: the last of the answer is on its way, or the connection
// is over before. See serverConn.finish.
func (x *serverStream) endSent(bool) {
	if x.ended() {
		x.conn.answered()
		x.conn.end()
	}
}

// awaitsContinue tells a request whose client waits for 100 Continue.
func awaitsContinue(req *http.Request) bool {
	expect := req.Header["Expect"]
	return req.ContentLength != 0 && len(expect) > 0 && httpguts.HeaderValuesContainsToken(expect, "100-continue")
}
