package netlab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestBridge has the path that netem is put in work with another qdisc, so that it is
// tried on a kernel without netem, too.
func TestBridge(t *testing.T) {
	lab := labOf(t, func(ctx context.Context) (*Lab, error) {
		p := Profile{Name: t.Name()}
		return between(&p, func(lab *Lab) error {
			return lab.joinNetem(ctx, &p, func(at netlink.QdiscAttrs, _ Direction, _ int) netlink.Qdisc {
				return &netlink.GenericQdisc{QdiscAttrs: at, QdiscType: "pfifo"}
			})
		})
	})
	// Datagrams cross one by one, and are joined in the host.
	if reads, datagrams := trains(t, lab, true); reads >= datagrams {
		t.Errorf("%d reads, %d datagrams", reads, datagrams)
	}
	s, err := lab.Stats()
	if err != nil || s.Forward.Passed < 2000 || s.Forward.Gone() != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if lab.Receiver.Addr6.IsValid() {
		receiver, sender := listen(t, lab.Receiver, lab.Receiver.Addr6), listen(t, lab.Sender, lab.Sender.Addr6)
		if _, err := sender.WriteToUDPAddrPort([]byte("ping"), addrOf(receiver)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := receiver.ReadFromUDPAddrPort(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNetem holds what netem does against its counters, where there is netem.
func TestNetem(t *testing.T) {
	const n = 2000
	d := Direction{Loss: 0.05, Delay: 10 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lab, err := Build(ctx, Profile{Emulator: Netem, Forward: d, Back: d})
	if errors.Is(err, errNoNetem) {
		if !strings.Contains(err.Error(), "CONFIG_NET_SCH_NETEM") {
			t.Error(err)
		}
		wan := openLab(t, WAN)
		if wan.Emulator != Wire {
			t.Errorf("there is no netem, and wan is of %q", wan.Emulator)
		}
		return
	}
	lab = labOf(t, func(context.Context) (*Lab, error) { return lab, err })
	if lab.Emulator != Netem {
		t.Errorf("emulator %q", lab.Emulator)
	}
	receiver, sender := ends(t, lab)
	start := time.Now()
	go sendNumbered(t, sender, addrOf(receiver), n, 1200)
	first := time.Duration(0)
	got := 0
	b := make([]byte, 2048)
	for {
		_ = receiver.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, _, err := receiver.ReadFromUDPAddrPort(b); err != nil {
			break
		}
		if got++; got == 1 {
			first = time.Since(start)
		}
	}
	s, err := lab.Stats()
	t.Logf("%d of %d, the first in %v, %+v, %v", got, n, first, s, err)
	if err != nil || s.Forward.Lost == 0 || uint64(n-got) != s.Forward.Lost || first < d.Delay {
		t.Error("not what was asked for")
	}
	if wan := openLab(t, WAN); wan.Emulator != Netem {
		t.Errorf("there is netem, and wan is of %q", wan.Emulator)
	}
}
