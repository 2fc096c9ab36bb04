package finish_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"testing/synctest"

	"github.com/socketplane/socketplane/internal/finish"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// syncing is a finisher on a fake host.
type syncing struct {
	finish.Finisher
	resync atomic.Bool

	mu     sync.Mutex // guards what follows
	out    bytes.Buffer
	err    error // what passes and the store answer
	left   bool  // something is left also without an error
	passes int
}

func (s *syncing) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(line)
}

func (s *syncing) answer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *syncing) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.left = err, true
}

// gone makes the store answer with err while nothing is left.
func (s *syncing) gone(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func startSyncing(ctx context.Context) (s *syncing, stop func()) {
	s = &syncing{}
	s.Finisher = finish.Finisher{
		Sync: func(context.Context) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.passes++; s.err == nil {
				s.left = false
			}
			return s.err
		},
		Pending: func(context.Context) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.left
		},
		Answers: func(context.Context) error { return s.answer() },
		Resync:  &s.resync, Done: func(time.Time) {}, Logger: slog.New(slog.NewTextHandler(s, nil)),
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}

// during counts passes and lines of the log while time goes by.
func (s *syncing) during(t *testing.T, d time.Duration) (passes int, said string) {
	synctest.Wait()
	s.mu.Lock()
	s.passes = 0
	s.out.Reset()
	s.mu.Unlock()
	retry.Sleep(t.Context(), d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passes, s.out.String()
}

func lines(said string) int { return strings.Count(said, "\n") }

// TestSyncTroubleIsToldOnce: one lasting error is one line and few passes; another cause is told, and the end.
func TestSyncTroubleIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startSyncing(t.Context())
		defer stop()
		if passes, said := s.during(t, 10*time.Minute); passes != 0 || said != "" {
			t.Errorf("ten minutes after the first pass, without trouble: %d passes, %q", passes, said)
		}
		if passes, said := s.during(t, 2*time.Hour); passes < 1 || passes > 2 || said != "" {
			t.Errorf("two hours without trouble: %d passes, %q", passes, said)
		}
		s.fail(errors.New("another host has the address"))
		if passes, said := s.during(t, 9*time.Minute); passes < 10 || passes > 25 || lines(said) != 1 {
			t.Errorf("nine minutes of one error: %d passes:\n%s", passes, said)
		}
		if _, said := s.during(t, 3*time.Minute); lines(said) != 1 || !strings.Contains(said, "lasts=1") {
			t.Errorf("a reminder:\n%s", said)
		}
		s.fail(errors.New("disk full"))
		if _, said := s.during(t, 3*time.Minute); lines(said) != 1 || !strings.Contains(said, "disk full") {
			t.Errorf("another cause:\n%s", said)
		}
		s.fail(nil)
		if _, said := s.during(t, 3*time.Minute); lines(said) != 1 || !strings.Contains(said, "what was left is finished") {
			t.Errorf("the end:\n%s", said)
		}
	})
}

// TestSyncFollowsTheStore: what waits for a store that is away is finished as soon as it answers, and what is asked for comes at once.
func TestSyncFollowsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startSyncing(t.Context())
		defer stop()
		s.during(t, time.Second)
		s.fail(store.ErrUnavailable)
		if passes, said := s.during(t, time.Hour-time.Second); passes > 100 || lines(said) > 4 {
			t.Errorf("an hour without the store: %d passes:\n%s", passes, said)
		}
		s.fail(nil)
		if passes, _ := s.during(t, finish.Soon+time.Millisecond); passes == 0 {
			t.Error("the store is back, and nothing is finished")
		}
		s.during(t, 5*time.Minute)
		s.gone(store.ErrUnavailable)
		if passes, said := s.during(t, 5*time.Minute); passes == 0 || lines(said) != 1 {
			t.Errorf("the store went away with nothing left: %d passes:\n%s", passes, said)
		}
		s.gone(nil)
		if passes, _ := s.during(t, finish.Soon+time.Millisecond); passes == 0 {
			t.Error("the store is back, and what it has of this host is not compared")
		}
		s.fail(errors.New("lasting"))
		s.during(t, 10*time.Minute)
		s.resync.Store(true)
		if passes, _ := s.during(t, finish.Soon+time.Millisecond); passes == 0 {
			t.Error("a pass was asked for, and does not come")
		}
	})
}
