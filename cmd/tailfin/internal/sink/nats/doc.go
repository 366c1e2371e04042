// Package natssink stores uploads in NATS JetStream: the sink for those who
// outgrow one host.
//
//	nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,HOST…]/STREAM[?OPTION=VALUE&…]
//
// tls:// in place of nats:// refuses a connection without TLS. Characters such as
// / @ : in a password are percent-encoded.
//
// # What is stored
//
// Each upload is one message on SUBJECT.NAME, where every byte of NAME but
// letters, digits, - and _ is percent-encoded ("a.b" is "a%2Eb"), so that a name is one
// token. A body up to the option inline is the data of the message. A longer one
// goes to the object store first, as NAME/ID with an ID of its own, so that an upload
// replaces none that a consumer is about to read, and the data of the
// message is then a Reference in JSON. The headers are the same for both: see
// the constants Header….
//
// Store returns after JetStream has acknowledged the message. Chunks and
// description of an object are acknowledged before the message that refers to it
// is sent, so no message ever refers to something that is missing.
//
// # Once each
//
// A message has a Nats-Msg-Id, by which JetStream drops what it has stored within
// the stream's duplicate window (option duplicates; `nats stream info` shows
// it). Within Store the ID stays the same however often the message has to be sent.
// Across requests it is made of the name, the Idempotency-Key header of the
// request and the SHA-256 of the body, so a client that sends the same upload
// again with the same key, after 503 or after an answer that was lost, adds no
// second message, and one that uses a key for two bodies loses neither. A request
// without that header has an ID of its own: sent twice, it is two messages.
// For large bodies, which may take longer than the window, the last message
// under the name is looked at too.
//
// # What survives
//
// An acknowledged message was written to the server's file, that is, to the
// kernel: killing nats-server loses nothing. A crash of the whole host
// loses what the server has not synced (sync_interval, two minutes by default). Set
// `sync_interval: always` there, or use replicas=3.
//
// # Options
//
//	subject=PREFIX      subject is PREFIX.NAME               STREAM
//	bucket=NAME         object store for long bodies         STREAM
//	inline=SIZE         longest body within a message        256KiB
//	headers=NAME,…      request headers that are kept        Content-Type,Content-Encoding,User-Agent
//	wait=TIME           how long an upload waits for a       5s
//	                    connection
//	ack-wait=TIME       how long for one acknowledgement     30s
//	in-flight=N         messages not yet acknowledged        256
//	sweep=TIME          age at which an object that no       24h
//	                    message refers to goes, from 10m on;
//	                    0 for never
//	create=1            make stream and bucket if missing,   0
//	                    with the six below
//	replicas=N          copies of each message, 1 to 5       1
//	storage=KIND        file or memory                       file
//	max-age=TIME        for how long to keep, 0 for ever     0
//	max-bytes=SIZE      of the stream, and of the bucket;    0 (no limit)
//	                    what is more is refused (507)
//	duplicates=TIME     the duplicate window                 2m
//	creds=FILE          user credentials (JWT and seed)
//	nkey=FILE           seed of an NKey user
//	ca=FILE             certificates to trust, in PEM
//	cert=FILE key=FILE  client certificate, in PEM
//
// # Objects that no message refers to
//
// They are left by a crash between object and message, and by messages that
// expired or were removed. A sweep deletes those that this sink wrote for this
// stream and that are older than the option sweep. A consumer that removes
// messages (a work queue) reads the object before it acknowledges the message.
// Where copies of the stream live longer than the stream (mirrors), use sweep=0.
package natssink
