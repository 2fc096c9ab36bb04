package latest_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/latest"
)

// TestLatest: who asks while a handler holds what the answer needs is told what was so before, at once, and one question waits however many ask.
func TestLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l latest.Value[int]
		var asked atomic.Int32
		answer := make(chan int, 1)
		ask := func() int { asked.Add(1); return <-answer }
		answer <- 1
		if got := l.Get(ask); got != 1 {
			t.Errorf("the first answer is %d", got)
		}
		began := time.Now()
		for range 5 { // the handler works
			if got := l.Get(ask); got != 1 {
				t.Errorf("while it is held: %d", got)
			}
		}
		if took := time.Since(began); took != 5*latest.Wait || asked.Load() != 2 {
			t.Errorf("five answers took %v and %d questions", took, asked.Load()-1)
		}
		answer <- 2
		synctest.Wait()
		answer <- 3
		if got := l.Get(ask); got != 3 {
			t.Errorf("afterwards: %d", got)
		}
	})
}
