package netlab

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWireRoundTrip(t *testing.T) {
	const oneWay = 10 * time.Millisecond
	lab := buildLab(t, Profile{Emulator: Wire, Forward: Direction{Delay: oneWay}, Back: Direction{Delay: oneWay}})
	receiver, sender := ends(t, lab)
	b := make([]byte, 16)
	for range 20 {
		start := time.Now()
		if _, err := sender.WriteToUDPAddrPort(b[:1], addrOf(receiver)); err != nil {
			t.Fatal(err)
		}
		_, from, err := receiver.ReadFromUDPAddrPort(b)
		if err != nil {
			t.Fatal(err)
		}
		if there := time.Since(start); there < oneWay {
			t.Errorf("there in %v", there)
		}
		if _, err := receiver.WriteToUDPAddrPort(b[:1], from); err != nil {
			t.Fatal(err)
		}
		if _, _, err := sender.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
		if there := time.Since(start); there < 2*oneWay {
			t.Errorf("there and back in %v", there)
		}
	}
}

// TestWireFates sends numbered datagrams, and holds what arrives against the counters.
func TestWireFates(t *testing.T) {
	const n = 3000
	for name, d := range map[string]Direction{
		"clean":     {},
		"delay":     {Delay: 5 * time.Millisecond},
		"loss 1%":   {Loss: 0.01},
		"loss 20%":  {Loss: 0.20, Delay: 2 * time.Millisecond},
		"jitter":    {Delay: 2 * time.Millisecond, Jitter: 5 * time.Millisecond},
		"reorder":   {Reorder: 0.05, HoldBack: 20 * time.Millisecond},
		"duplicate": {Duplicate: 0.1},
		"all":       {Loss: 0.05, Reorder: 0.05, Duplicate: 0.05, Jitter: time.Millisecond, Delay: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := buildLab(t, Profile{Emulator: Wire, Forward: d, Seed: 7})
			receiver, sender := ends(t, lab)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				sendNumbered(t, sender, addrOf(receiver), n, 1200)
			}()
			got, c := receiveNumbered(t, lab, receiver, n, nil)
			<-sent
			t.Logf("%+v", c)
			seen := make(map[int]int)
			for _, i := range got {
				seen[i]++
			}
			twice := 0
			for _, times := range seen {
				twice += times - 1
			}
			if uint64(n-len(seen)) != c.Lost || uint64(twice) != c.Duplicated {
				t.Errorf("%d missing, %d twice, %+v", n-len(seen), twice, c)
			}
			if (c.Jittered > 0) != (d.Jitter > 0) {
				t.Errorf("%d jittered, by %v at most", c.Jittered, d.Jitter)
			}
			if inOrder := slices.IsSorted(got); inOrder != (d.Reorder == 0) {
				t.Errorf("in order: %v", inOrder)
			}
			for what, x := range map[string]struct {
				part float64
				n    uint64
			}{"lost": {d.Loss, c.Lost}, "duplicated": {d.Duplicate, c.Duplicated}, "held back": {d.Reorder, c.HeldBack}} {
				// The seed has decided: this holds always or never.
				if off := float64(x.n) - n*x.part; off*off > 36*n*x.part {
					t.Errorf("%d of %d %s, at %v", x.n, n, what, x.part)
				}
			}
		})
	}
}

func TestWireBlackHole(t *testing.T) {
	const hole = 1300
	lab := buildLab(t, Profile{Forward: Direction{BlackHole: hole}, Back: Direction{BlackHole: hole}})
	if lab.Emulator != Wire {
		t.Fatalf("emulator %q", lab.Emulator)
	}
	receiver, sender := ends(t, lab)
	b := make([]byte, 1472)
	for _, size := range []int{hole - ip4Header - udpHeader + 1, 1472, hole - ip4Header - udpHeader, 100} {
		if _, err := sender.WriteToUDPAddrPort(b[:size], addrOf(receiver)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{hole - ip4Header - udpHeader, 100} {
		if n, _, err := receiver.ReadFromUDPAddrPort(b); err != nil || n != want {
			t.Errorf("%d bytes, want %d, %v", n, want, err)
		}
	}
	if s, err := lab.Stats(); err != nil || s.Forward != (Counters{Passed: 2, TooBig: 2, Largest: hole}) {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestMTU(t *testing.T) {
	for _, p := range []Profile{{MTU: 1280}, {MTU: 1280, Cut: true}, {MTU: 1280, Emulator: Wire}} {
		lab := buildLab(t, p)
		receiver, sender := ends(t, lab)
		option(t, sender, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		b := make([]byte, 1500)
		if _, err := sender.WriteToUDPAddrPort(b[:1280-ip4Header-udpHeader+1], addrOf(receiver)); !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%+v: a packet of 1281 bytes: %v", p, err)
		}
		if _, err := sender.WriteToUDPAddrPort(b[:1280-ip4Header-udpHeader], addrOf(receiver)); err != nil {
			t.Errorf("%+v: a packet of 1280 bytes: %v", p, err)
		}
		if n, _, err := receiver.ReadFromUDPAddrPort(b); err != nil || n != 1280-ip4Header-udpHeader {
			t.Errorf("%+v: %d bytes, %v", p, n, err)
		}
	}
}

// TestWireRate has no packet come before the line can have sent it. It may come later, if
// others have the processors.
func TestWireRate(t *testing.T) {
	const (
		n    = 600
		size = 1000 - ip4Header - udpHeader
		rate = 16e6
		each = 500 * time.Microsecond // a packet
		room = 200                    // packets
	)
	lab := buildLab(t, Profile{Forward: Direction{Rate: rate, Queue: room * 1000}, Emulator: Wire})
	receiver, sender := ends(t, lab)
	start := time.Now()
	go sendNumbered(t, sender, addrOf(receiver), n, size)
	got, c := receiveNumbered(t, lab, receiver, n, func(n int) {
		if took := time.Since(start); took < time.Duration(n)*each {
			t.Errorf("%d packets in %v", n, took)
		}
	})
	t.Logf("%+v", c)
	if !slices.IsSorted(got) || c.Passed < room || c.Passed+c.Overflowed != n {
		t.Errorf("%d arrived, %+v", len(got), c)
	}
}

// TestWireAgain has the same seed lose the same packets, in a process as here.
func TestWireAgain(t *testing.T) {
	const n = 1000
	run := func(process bool) []int {
		lab := buildLab(t, Profile{Forward: Direction{Loss: 0.1}, Seed: 3, Emulator: Wire, Process: process})
		receiver, sender := ends(t, lab)
		go sendNumbered(t, sender, addrOf(receiver), n, 100)
		got, _ := receiveNumbered(t, lab, receiver, n, nil)
		return got
	}
	if a, b := run(false), run(true); !slices.Equal(a, b) {
		t.Errorf("%d and %d arrived", len(a), len(b))
	}
}

func TestRebind(t *testing.T) {
	for _, process := range []bool{false, true} {
		lab := buildLab(t, Profile{NAT: true, Process: process})
		for _, addrs := range [][2]netip.Addr{{lab.Receiver.Addr, lab.Sender.Addr}, {lab.Receiver.Addr6, lab.Sender.Addr6}} {
			if !addrs[0].IsValid() {
				continue
			}
			receiver, sender := listen(t, lab.Receiver, addrs[0]), listen(t, lab.Sender, addrs[1])
			ping := func() netip.AddrPort {
				t.Helper()
				if _, err := sender.WriteToUDPAddrPort([]byte("ping"), addrOf(receiver)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 10)
				n, from, err := receiver.ReadFromUDPAddrPort(b)
				if err != nil || !bytes.Equal(b[:n], []byte("ping")) {
					t.Fatalf("%q, %v", b[:n], err)
				}
				if _, err := receiver.WriteToUDPAddrPort([]byte("pong"), from); err != nil {
					t.Fatal(err)
				}
				if n, at, err := sender.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != "pong" || at != addrOf(receiver) {
					t.Fatalf("%q from %v, %v", b[:n], at, err)
				}
				return from
			}
			first := ping()
			if first == addrOf(sender) {
				t.Errorf("the source was not rewritten: %v", first)
			}
			if err := lab.Rebind(RebindPort); err != nil {
				t.Fatal(err)
			}
			second := ping()
			if second.Addr() != first.Addr() || second.Port() == first.Port() {
				t.Errorf("%v became %v", first, second)
			}
			if err := lab.Rebind(RebindAddress); err != nil {
				t.Fatal(err)
			}
			if third := ping(); third.Addr() == second.Addr() {
				t.Errorf("%v became %v", second, third)
			}
			if err := lab.Rebind("moon"); err == nil || !strings.Contains(err.Error(), `no rebinding "moon"`) {
				t.Errorf("%v", err)
			}
		}
	}
	if err := buildLab(t, Profile{Emulator: Wire}).Rebind(RebindPort); err == nil {
		t.Error("there is no NAT, and it was rebound")
	}
}

// TestInterrupt has what is sent meanwhile not arrive, and what is sent after.
func TestInterrupt(t *testing.T) {
	for _, process := range []bool{false, true} {
		lab := buildLab(t, Profile{Emulator: Wire, Process: process})
		receiver, sender := ends(t, lab)
		exchange := func(text string) {
			t.Helper()
			if _, err := sender.WriteToUDPAddrPort([]byte(text), addrOf(receiver)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 10)
			if n, _, err := receiver.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != text {
				t.Fatalf("%q, want %q, %v", b[:n], text, err)
			}
		}
		exchange("before")
		interrupt := func(on bool) {
			t.Helper()
			if err := lab.Interrupt(on); err != nil {
				t.Fatal(err)
			}
		}
		interrupt(true)
		const n = 3
		for range n {
			_, there := sender.WriteToUDPAddrPort([]byte("lost"), addrOf(receiver))
			_, back := receiver.WriteToUDPAddrPort([]byte("lost"), addrOf(sender))
			if err := errors.Join(there, back); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			s, err := lab.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if s.Forward.Interrupted == n && s.Back.Interrupted == n && s.Forward.Gone() == n {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v", s)
			}
		}
		interrupt(false)
		exchange("after")
	}
	for _, lab := range []*Lab{openLab(t, Veth), openLab(t, Loopback)} {
		if err := lab.Interrupt(true); !errors.Is(err, errNoWire) {
			t.Errorf("%s: %v", lab.Path, err)
		}
	}
}
