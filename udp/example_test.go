package udp_test

import (
	"fmt"
	"log"
	"net"

	"golang.org/x/net/ipv4"

	"github.com/tailfin-quic/tailfin/udp"
)

// A Conn reads many datagrams with one call. Backend and Reason belong in a log.
func ExampleListen() {
	conn, err := udp.Listen("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	log.Printf("reading by %s: %s", conn.Backend(), conn.Reason())

	sender, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	fmt.Fprint(sender, "hello")

	ms := make([]ipv4.Message, 8)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 1452)}
		ms[i].OOB = make([]byte, 128)
	}
	n, err := conn.ReadBatch(ms, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range ms[:n] {
		fmt.Printf("%s\n", m.Buffers[0][:m.N])
	}
	// Output: hello
}
