package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/lock"
)

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lock.New()
		if err := l.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		late := errors.New("late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, late)
		defer cancel()
		began := time.Now()
		if err := l.Take(ctx); !errors.Is(err, late) || time.Since(began) != time.Second {
			t.Errorf("a lock that is held: %v after %v", err, time.Since(began))
		}
		l.Release()
		if err := l.Take(ctx); !errors.Is(err, late) {
			t.Errorf("with a context that has ended: %v", err)
		}
		if err := l.Take(t.Context()); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}

func TestReleaseOfAFreeLockPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not")
		}
	}()
	lock.New().Release()
}

func TestOneHolderAtATime(t *testing.T) {
	l, n := lock.New(), 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := l.Take(t.Context()); err != nil {
				t.Error(err)
				return
			}
			defer l.Release()
			n++
		})
	}
	wg.Wait()
	if n != 50 {
		t.Errorf("%d holders", n)
	}
}
