// Package gateway forwards what the receiver gets to an upstream server, and
// streams in both directions. The URL of an upstream names how it is spoken to:
//
//	https://HOST[:PORT][/PREFIX]   HTTP/3, or HTTP/2 and HTTP/1.1 where that is not spoken
//	h3://HOST[:PORT][/PREFIX]      HTTP/3 only
//	http://HOST[:PORT][/PREFIX]    HTTP/1.1 without TLS
//
// Forwarding is net/http/httputil.ReverseProxy's; the package adds to it what it
// leaves to its users: request trailers, targets that would leave the prefix, loops,
// bounds, and what becomes of errors.
//
// # Sent again or not
//
// A request goes to another connection by itself if the upstream cannot have acted
// on it: nothing of it was sent, it was refused with H3_REQUEST_REJECTED, or it is
// above the ID of a GOAWAY. Its body is had again from the first bytes of it, which
// are kept until the response begins (tailfin.Replay). One that may have been acted on
// is sent again only if its method is idempotent or it has an Idempotency-Key, and
// the upstream closed in good order.
//
// An upstream that closes behind its answers without a GOAWAY loses what meets the
// close. So a connection is not given more requests than the upstream answers on one:
// see tailfin.Transport.LearnCloses. What each kind of upstream gets:
//
//	upstream                                    connections        a POST that meets the close
//	keeps connections open                      shared             -
//	closes with GOAWAY                          shared             was not processed, goes again
//	closes behind the n-th answer, no GOAWAY    n requests each    there is none
//	closed once, without GOAWAY (a crash)       shared             502, if it had been sent
//
// # Errors
//
// Status by what the upstream did; Proxy-Status (RFC 9209) and the access line say more:
//
//	400  the client's body was cut short       413  longer than MaxBody
//	408  the client's body did not come        431  header section beyond what the upstream takes
//	501  CONNECT                               508  the request was here before
//	502  no connection, or it was lost, or the answer broke the protocol
//	503  the circuit is open, or the upstream drains and the body cannot be had again
//	504  no connection, or no answer, in time
//
// An answer that was cut short is cut short for the client: its stream is reset.
package gateway
