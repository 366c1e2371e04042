package tailfin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailfin-quic/tailfin/h3frame"
)

// past is a deadline that has gone by, whatever the clock of a test says.
var past = time.Unix(1, 0)

func post(path string, more ...string) []byte {
	return section(append([]string{":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", path}, more...)...)
}

// answer reads a whole response from a stream.
func answer(t *testing.T, r io.Reader) (head *h3frame.ResponseHead, body string, err error) {
	t.Helper()
	dec := h3frame.NewResponseDecoder(h3frame.ResponseStream, http.MethodGet, h3frame.Limits{})
	all, end := io.ReadAll(r)
	_, _ = dec.Buffer().Write(all)
	if end == nil {
		end = io.EOF
	}
	dec.Buffer().Finish(end)
	for {
		ev, err := dec.Next()
		if errors.Is(err, io.EOF) {
			return head, body, nil
		}
		if err != nil {
			return head, body, err
		}
		if ev.Response != nil {
			head = ev.Response
		}
		body += string(ev.Body)
	}
}

// TestReadDeadline lets a deadline pass before, and during, a read of the body, and
// goes on after extending it.
func TestReadDeadline(t *testing.T) {
	first := make(chan struct{})
	got := make(chan error, 3)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		if err := ctl.SetReadDeadline(past); err != nil {
			got <- err
		}
		_, err := r.Body.Read(make([]byte, 1))
		got <- err
		_ = ctl.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // nothing comes so long
		_, err = io.ReadAll(r.Body)
		got <- err
		_ = ctl.SetReadDeadline(time.Time{})
		close(first)
		body, err := io.ReadAll(r.Body)
		got <- err
		_, _ = w.Write(body)
	})})
	c := newRawClient(t, addr)
	str, err := c.conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = str.Write(post("/"))
	<-first
	for range 2 {
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read past the deadline: %v", err)
		}
	}
	_, _ = str.Write(h3frame.AppendData(nil, []byte("late")))
	_ = str.Close()
	_, body, err := answer(t, str)
	want(t, body, "late")
	want(t, err, nil)
	want(t, <-got, nil)
}

// TestWriteDeadline cuts a large write, by flow control and a deadline, and has the
// handler go on with the rest: not a byte may be lost, or sent twice.
func TestWriteDeadline(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB, above the client's window
	stuck := make(chan error, 1)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ctl := http.NewResponseController(w)
		_ = ctl.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := w.Write(content)
		stuck <- err
		if err := ctl.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) && err != nil {
			t.Errorf("flush past the deadline: %v", err)
		}
		_ = ctl.SetWriteDeadline(time.Time{})
		if _, err := w.Write(content[n:]); err != nil {
			t.Errorf("write after the deadline was extended: %v", err)
		}
	})})
	str := newRawClient(t, addr).send(t, get("/"))
	if err := <-stuck; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write past the deadline: %v", err)
	}
	_, body, err := answer(t, str)
	want(t, err, nil)
	want(t, body == string(content), true)
}

// TestWriteDeadlineAtReturn has a handler return past its deadline: what the client
// got must not pass for the whole.
func TestWriteDeadlineAtReturn(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(past)
		if _, err := io.WriteString(w, strings.Repeat("x", 2*writeBuffer)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write past the deadline: %v", err)
		}
	})})
	_, err := client(t, &Transport{}).Get("https://" + addr + "/")
	wantAs(t, err, func(e *StreamReset) bool { return e.Remote && e.Code == uint64(h3frame.ErrCodeInternal) })
}

func TestResponseControllerFindsItAll(t *testing.T) {
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ctl := http.NewResponseController(w)
		for name, err := range map[string]error{
			"EnableFullDuplex": ctl.EnableFullDuplex(),
			"SetReadDeadline":  ctl.SetReadDeadline(time.Time{}),
			"SetWriteDeadline": ctl.SetWriteDeadline(time.Time{}),
			"Flush":            ctl.Flush(),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, _, err := ctl.Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack: %v", err)
		}
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("copied ", 20_000))); err != nil {
			t.Errorf("io.Copy: %v", err)
		}
	})})
	resp, err := client(t, &Transport{}).Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want(t, string(body) == strings.Repeat("copied ", 20_000), true)
	want(t, err, nil)
}

// TestDeadlineSurvivesDrain drains a stream whose reader has set a past deadline:
// the drain must read all the same, and leave the reader its deadline.
func TestDeadlineSurvivesDrain(t *testing.T) {
	b, src := serverBarrier(), newFakeStream(0)
	recv := b.adopt(src)
	_ = recv.SetReadDeadline(past)
	received(b, src.arrive(0, []byte("saved"), true), closeFrame())
	src.closeForShutdown()
	if n, err := recv.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read past the deadline: %d bytes, %v", n, err)
	}
	want(t, src.deadline, past)
	_ = recv.SetReadDeadline(time.Now().Add(time.Hour))
	text, err := readAll(t, recv)
	want(t, text, "saved")
	want(t, err, nil)
}

// TestDeadlineSetDuringDrain sets one while a drain has its own on the stream.
func TestDeadlineSetDuringDrain(t *testing.T) {
	src := newFakeStream(0)
	var d deadlines
	d.lend(src, time.Now().Add(time.Hour))
	_ = d.set(src, past)
	want(t, src.deadline.Equal(past), false)
	d.giveBack(src)
	want(t, src.deadline, past)
}

// TestEndedSource has a FIN that comes along with a head, behind it, and behind a body.
func TestEndedSource(t *testing.T) {
	head, body := get("/"), h3frame.AppendData(nil, []byte("x"))
	for _, tc := range []struct {
		name string
		data []byte
		fin  bool
		want bool
	}{
		{"with the head", head, true, true},
		{"not yet", head, false, false},
		{"with a body", append(head, body...), true, false},
	} {
		src := newFakeStream(0)
		src.data, src.fin = tc.data, tc.fin
		s := newMessageSource(newRecvStream(src, new(atomic.Int64), nil), h3frame.NewRequestDecoder(h3frame.Limits{}))
		if _, err := s.next(); err != nil {
			t.Fatal(err)
		}
		if got := s.ended(); got != tc.want {
			t.Errorf("%s: ended is %v", tc.name, got)
		}
		s.release()
	}
}

func TestPeerSettings(t *testing.T) {
	got := make(chan h3frame.Settings, 1)
	gone := make(chan error, 2)
	addr := startServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancelled, cancel := context.WithCancel(r.Context())
		cancel()
		if _, err := PeerSettings(cancelled, w); r.URL.Path == "/none" {
			gone <- err
			_, err = PeerSettings(context.Background(), wrapped{w})
			gone <- err
			return
		}
		settings, err := PeerSettings(timeout(t), wrapped{w})
		want(t, err, nil)
		got <- settings
	})})
	c := newRawClient(t, addr)
	str := c.send(t, get("/"))
	c.sendUni(t, false, h3frame.AppendStreamType(nil, h3frame.StreamControl), // after the request
		h3frame.AppendSettings(nil, h3frame.Settings{MaxFieldSectionSize: h3frame.SettingValue(777)}))
	want(t, *(<-got).MaxFieldSectionSize, 777)
	_, _, err := answer(t, str)
	want(t, err, nil)

	c = newRawClient(t, addr)
	c.send(t, get("/none"))
	want(t, <-gone, context.Canceled)
	_ = c.conn.CloseWithError(0x100, "")
	wantAs[*GracefulClose](t, <-gone, nil)

	_, err = PeerSettings(t.Context(), struct{ http.ResponseWriter }{})
	want(t, errors.Is(err, http.ErrNotSupported), true)
}
