package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, access := New(&out, Options{JSON: true, Level: slog.LevelInfo, Repeat: 3})
		for i := range 10 {
			log.With("conn", i).Warn("flood", "i", i)
		}
		log.Warn("other")
		log.Debug("not at this level")
		for range 5 {
			access.Info("request")
		}
		time.Sleep(2 * window)
		synctest.Wait()
		log.Warn("flood", "i", 10)
		var flood, other, request, suppressed int
		for line := range strings.Lines(out.String()) {
			var rec struct {
				Msg        string
				Suppressed int
			}
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			suppressed += rec.Suppressed
			switch {
			case rec.Suppressed > 0:
			case rec.Msg == "flood":
				flood++
			case rec.Msg == "other":
				other++
			case rec.Msg == "request":
				request++
			default:
				t.Errorf("unexpected line %s", line)
			}
		}
		if flood != 4 || other != 1 || request != 5 || suppressed != 7 {
			t.Errorf("%d floods (want 3 and 1), %d others, %d access lines, %d suppressed (want 7):\n%s", flood, other, request, suppressed, &out)
		}
	})
}

// TestManyMessages has more different messages than are counted.
func TestManyMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, _ := New(&out, Options{Level: slog.LevelInfo, Repeat: 1})
		state := log.Handler().(*repeats).state
		for i := range 2 * maxMessages {
			log.Info(fmt.Sprint("message ", i))
		}
		if n := strings.Count(out.String(), "\n"); n != 2*maxMessages {
			t.Errorf("%d lines of %d", n, 2*maxMessages)
		}
		time.Sleep(2 * window)
		log.Info("one more")
		if n := len(state.seen); n != 1 {
			t.Errorf("%d messages are remembered after their window", n)
		}
	})
}
