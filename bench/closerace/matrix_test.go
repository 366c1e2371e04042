package closerace

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tailfin-quic/tailfin/bench/peer"
	"github.com/tailfin-quic/tailfin/bench/proc"
	"github.com/tailfin-quic/tailfin/udp"
)

func TestMain(m *testing.M) {
	proc.Child(Roles(newCertificate))
	goleak.VerifyTestMain(m)
}

// raceIterations names the variable with the number of connections a cell.
const raceIterations = "TAILFIN_RACE_ITERATIONS"

// newCertificate is for clients that trust any.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func testCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestRaceMatrix wants nothing lost in any cell, and prints the matrix. The big
// one is
//
//	TAILFIN_RACE_ITERATIONS=500 go test -run TestRaceMatrix -timeout 2h -v ./bench/closerace
func TestRaceMatrix(t *testing.T) {
	iterations := 4
	if v := os.Getenv(raceIterations); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: give a number of 1 or more", raceIterations, v)
		}
		iterations = n
	}
	for _, backend := range []udp.Backend{udp.Mmsg, udp.Uring} {
		conn, err := udp.Listen("udp", "127.0.0.1:0", udp.WithBackend(backend))
		if err != nil {
			t.Logf("without %s: %v", backend, err)
			continue
		}
		_ = conn.Close()
		for _, procs := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, procs=%d", backend, procs), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				cells, err := Matrix(t.Context(), MatrixConfig{Iterations: iterations, Backend: backend, Certificate: testCertificate(t)})
				t.Logf("the race matrix:\n%s", matrixText(t, cells))
				if err != nil {
					t.Fatal(err)
				}
				saved := make(map[string]uint64) // by direction and shape
				for _, c := range cells {
					if !c.Fine() {
						t.Errorf("lost: %+v", c)
					}
					// More than that and the matrix tests the loopback.
					if c.Received < c.Sent*9/10 {
						t.Errorf("%d of %d messages were received: %+v", c.Received, c.Sent, c)
					}
					saved[c.Direction+", "+c.Shape] += c.SavedBytes
				}
				for cell, n := range saved {
					// Behind the last packet of a request the Server lets its handler run, which
					// may have read all of a small body before the close is met.
					if n == 0 && cell != "upload, one batch" {
						t.Errorf("the drain had nothing to do: %s", cell)
					}
				}
			})
		}
	}
}

// TestRaceMatrixWithoutDrain proves that the matrix can lose.
func TestRaceMatrixWithoutDrain(t *testing.T) {
	cells, err := Matrix(t.Context(), MatrixConfig{Iterations: 1, DisableDrain: true, Certificate: testCertificate(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the race matrix:\n%s", matrixText(t, cells))
	lost := map[string]int{}
	for _, c := range cells {
		lost[c.Direction] += c.Lost
	}
	if lost["upload"] == 0 || lost["download"] == 0 {
		t.Fatalf("without the drain nothing was lost (%v), so that the matrix proves nothing", lost)
	}
}

func matrixText(t *testing.T, cells []MatrixCell) string {
	t.Helper()
	var b strings.Builder
	if err := PrintMatrix(&b, cells); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBurstOfOne holds what the names of shapes promise.
func TestBurstOfOne(t *testing.T) {
	for _, shape := range Shapes {
		var messages []peer.Message
		for i := range shape.Streams {
			messages = append(messages, peer.RequestMessage(int64(4*i), racePath, peer.Pattern(shape.Body)))
		}
		if got, want := peer.BurstOfOne(messages, peer.Close{Apart: shape.Apart}), shape.Name == "one packet"; got != want {
			t.Errorf("%s: in one packet: %v", shape.Name, got)
		}
	}
}
