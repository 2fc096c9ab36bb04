package probe

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/testenv"
)

// TestClock asks this machine's own kernel, whose clock is the same.
func TestClock(t *testing.T) {
	testenv.Root(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := Clock(ctx, netip.MustParseAddr("127.0.0.1"))
	if err != nil || got.Abs() > 5*time.Second { // a busy machine stands still between question and answer
		t.Errorf("ahead by %v, %v", got, err)
	}
	if _, err := Clock(ctx, netip.MustParseAddr("::1")); !errors.Is(err, ErrNoClock) {
		t.Errorf("IPv6: %v", err)
	}
}

// TestSynced: the kernel answers, with what adjtimex(2) returns as the state of the clock.
func TestSynced(t *testing.T) {
	got, err := Synced()
	if err != nil {
		t.Fatal(err)
	}
	var timex unix.Timex
	state, err := unix.Adjtimex(&timex)
	if err != nil || got != (state != unix.TIME_ERROR) {
		t.Errorf("synced: %v, but the kernel's state is %d, %v", got, state, err)
	}
}

func TestAhead(t *testing.T) {
	for name, tt := range map[string]struct {
		now   string
		stamp time.Duration
		want  time.Duration
	}{
		"the same":               {"2026-03-01T12:00:00Z", 12 * time.Hour, 0},
		"another zone":           {"2026-03-01T14:00:00+02:00", 12 * time.Hour, 0},
		"ahead":                  {"2026-03-01T12:00:00Z", 12*time.Hour + 5*time.Minute, 5 * time.Minute},
		"behind":                 {"2026-03-01T12:00:00Z", 12*time.Hour - 1500*time.Millisecond, -1500 * time.Millisecond},
		"ahead over midnight":    {"2026-03-01T23:59:59Z", time.Second, 2 * time.Second},
		"behind over midnight":   {"2026-03-01T00:00:01Z", 24*time.Hour - time.Second, -2 * time.Second},
		"rounded to what it has": {"2026-03-01T12:00:00.0004Z", 12 * time.Hour, 0},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := ahead(now, uint32(tt.stamp.Milliseconds())); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
