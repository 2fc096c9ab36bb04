package gate_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/gate"
)

// TestGate: what runs ends before close returns, begins again with open, and ends for good with its context.
func TestGate(t *testing.T) {
	var g gate.Gate
	var running, began atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	starts := make(chan struct{}, 8)
	for range 2 {
		go func() {
			done <- g.Run(ctx, func(ctx context.Context) error {
				running.Add(1)
				began.Add(1)
				starts <- struct{}{}
				<-ctx.Done()
				running.Add(-1)
				return nil
			})
		}()
	}
	for range 2 {
		<-starts
	}
	for range 3 {
		g.Close()
		if n := running.Load(); n != 0 {
			t.Fatalf("%d run behind a closed gate", n)
		}
		g.Close()
		g.Open()
		for range 2 {
			<-starts
		}
	}
	if n := began.Load(); n != 8 {
		t.Errorf("%d starts, want 8", n)
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	broken := errors.New("broken")
	if err := g.Run(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("what fails of itself gives %v", err)
	}
	g.Close()
	short, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer end()
	if err := g.Run(short, func(context.Context) error { return broken }); err != nil {
		t.Errorf("a closed gate let somebody in: %v", err)
	}
}
