package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

func TestPause(t *testing.T) {
	p := retry.Pause{First: 100 * time.Millisecond, Last: 2 * time.Second, Steady: 10 * time.Second}
	within := func(what string, worked, limit time.Duration) {
		t.Helper()
		if got := p.Next(worked); got < limit/2-time.Millisecond || got > limit {
			t.Errorf("%s: the pause is %v, want %v to %v", what, got, limit/2, limit)
		}
	}
	for i, limit := range []int{100, 200, 400, 800, 1600, 2000, 2000} {
		within(fmt.Sprint("failure ", i), 0, time.Duration(limit)*time.Millisecond)
	}
	within("it worked for a moment", 9*time.Second, 2*time.Second)
	within("it worked", 10*time.Second, 100*time.Millisecond)
	within("it fails again", 0, 200*time.Millisecond)
	p.Reset()
	within("after a reset", 0, 100*time.Millisecond)
	always := retry.Pause{First: time.Millisecond, Last: time.Second}
	always.Next(0)
	if got := always.Next(1); got > time.Millisecond {
		t.Errorf("without a steady time whatever worked resets, but the pause is %v", got)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		retry.Sleep(ctx, time.Hour)
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestTrouble: a day of one failure is some thirty lines, however often it is met, and says how long it lasts.
func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		trouble := retry.Trouble{Logger: slog.New(slog.NewTextHandler(&out, nil)), Level: slog.LevelWarn, Text: "it fails", Over: "it works again"}
		said := func() string {
			defer out.Reset()
			return out.String()
		}
		lines := func(text string) int { return strings.Count(text, "\n") }
		trouble.Note(nil)
		if got := said(); got != "" {
			t.Errorf("nothing has failed, and it says %q", got)
		}
		refused, full := errors.New("connection refused"), errors.New("disk full")
		trouble.Note(refused, "pool", "10.1.0.0/24")
		if got := said(); lines(got) != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, `err="connection refused" pool=10.1.0.0/24`) {
			t.Errorf("the beginning: %s", got)
		}
		for range 100 {
			retry.Sleep(t.Context(), 2*time.Second)
			trouble.Note(refused)
		}
		if got := said(); got != "" {
			t.Errorf("nothing is new, and it says %s", got)
		}
		trouble.Note(full)
		trouble.Note(refused)
		trouble.Note(full)
		if got := said(); lines(got) != 1 || !strings.Contains(got, `err="disk full" since=2000-01-01T00:00:00Z`) {
			t.Errorf("another cause, and back and forth: %s", got)
		}
		for range 24 * 60 * 30 {
			retry.Sleep(t.Context(), 2*time.Second)
			trouble.Note(refused)
		}
		got := said()
		if n := lines(got); n < 20 || n > 30 || !strings.Contains(got, "lasts=10m0s") || !strings.Contains(got, "lasts=") {
			t.Errorf("a day: %d lines\n%s", n, got)
		}
		trouble.Note(nil)
		trouble.Note(nil)
		if got := said(); lines(got) != 1 || !strings.Contains(got, `"it works again" lasted=24h3m20s`) {
			t.Errorf("the end: %s", got)
		}
		trouble.Note(refused)
		if got := said(); lines(got) != 1 {
			t.Errorf("the next beginning: %s", got)
		}
		// Each attempt has other words.
		for i := range 1000 {
			trouble.Note(fmt.Errorf("read tcp 127.0.0.1:%d: connection reset", i))
		}
		if n := lines(said()); n > 8 {
			t.Errorf("%d lines about causes that are never the same", n)
		}
	})
}

// TestTroubleThatComesAndGoes is one failure until it is away for long enough.
func TestTroubleThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		trouble := retry.Trouble{Logger: slog.New(slog.NewTextHandler(&out, nil)), Text: "it fails", Over: "it works again", Steady: 30 * time.Second}
		refused := errors.New("refused")
		for range 50 {
			trouble.Note(refused)
			retry.Sleep(t.Context(), 2*time.Second)
			trouble.Note(nil)
			retry.Sleep(t.Context(), 2*time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, out.String())
		}
		out.Reset()
		retry.Sleep(t.Context(), time.Minute)
		trouble.Note(nil)
		trouble.Note(refused)
		if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lasted=3m18s") {
			t.Errorf("it says\n%s", got)
		}
	})
}

// TestLoop: a store that answers plain questions and drops the ones that wait is asked seldom and told of once.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		loop := retry.Loop{
			Pause:   retry.Pause{First: 200 * time.Millisecond, Last: 5 * time.Second, Steady: 10 * time.Second},
			Trouble: retry.Trouble{Logger: slog.New(slog.NewTextHandler(&out, nil)), Text: "it fails", Over: "it works again"},
		}
		dropped := errors.New("dropped")
		began, rounds := time.Now(), 0
		for ; time.Since(began) < 5*time.Minute; rounds++ {
			loop.Works()
			retry.Sleep(t.Context(), 10*time.Millisecond)
			loop.Fails(t.Context(), dropped)
		}
		if n := strings.Count(out.String(), "\n"); rounds > 130 || n != 1 {
			t.Errorf("%d rounds in 5 minutes, %d lines:\n%s", rounds, n, out.String())
		}
		out.Reset()
		loop.Works()
		retry.Sleep(t.Context(), time.Minute)
		loop.Works()
		if got := out.String(); !strings.Contains(got, "it works again") {
			t.Errorf("when it works, it says %q", got)
		}
		out.Reset()
		began = time.Now()
		loop.Fails(t.Context(), dropped)
		if took := time.Since(began); took > 200*time.Millisecond || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("the pause after a long success was %v, and it says %q", took, out.String())
		}
		out.Reset()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		loop.Fails(ended, errors.New("something else"))
		if out.Len() > 0 {
			t.Errorf("the end is no failure, but it says %q", out.String())
		}
	})
}

// TestFollow: a watch begins with 0, continues with its last index, and begins again after an error, with a pause.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loop := retry.Loop{
			Pause:   retry.Pause{First: time.Second, Last: time.Second},
			Trouble: retry.Trouble{Logger: slog.New(slog.DiscardHandler)},
		}
		ctx, cancel := context.WithCancel(t.Context())
		var asked []uint64
		var at []time.Time
		loop.Follow(ctx, func(_ context.Context, since uint64) (uint64, error) {
			asked, at = append(asked, since), append(at, time.Now())
			switch len(asked) {
			case 3:
				return 9, errors.New("the store is away")
			case 5:
				cancel()
			}
			return uint64(len(asked)), nil
		})
		if want := []uint64{0, 1, 2, 0, 4}; !slices.Equal(asked, want) {
			t.Errorf("it asked since %v, want %v", asked, want)
		} else if pause := at[3].Sub(at[2]); pause < time.Second/2 || at[2] != at[0] {
			t.Errorf("after the error it waited %v", pause)
		}
	})
}
