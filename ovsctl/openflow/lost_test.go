package openflow

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSwitchKilledDuringCall(t *testing.T) {
	sw, c := startSwitch(t)
	sw.PauseVswitchd() // so that the calls are under way when it dies
	failed := make(chan error, 3)
	go func() { failed <- c.Apply(deadline(t), Change{Add: manyFlows(10_000, 1)}) }()
	go func() { _, err := c.Dump(deadline(t), 0, 0); failed <- err }()
	go func() { _, err := c.Features(deadline(t)); failed <- err }()
	awaitCalls(t, c, 3)
	sw.StopVswitchd()
	for range 3 {
		select {
		case err := <-failed:
			if !errors.Is(err, ErrClosed) {
				t.Errorf("error %v", err)
			}
		case <-deadline(t).Done():
			t.Fatal("a call hangs")
		}
	}
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("Err %v", err)
	}
	if err := c.Apply(deadline(t), Change{Add: manyFlows(1, 1)}); !errors.Is(err, ErrClosed) {
		t.Errorf("a later call: %v", err)
	}
	sw.StartVswitchd()
	if got := dump(t, connect(t, sw), 0, 0); len(got) != 0 {
		t.Errorf("flows after a restart: %v", got)
	}
}

func TestGivingUpLeavesConnectionAlive(t *testing.T) {
	sw, c := startSwitch(t)
	sw.PauseVswitchd()
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() { failed <- c.Apply(ctx, Change{Add: manyFlows(10_000, 1)}) }()
	awaitCalls(t, c, 1)
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	sw.ResumeVswitchd()
	if got := dump(t, c, 0, 0); len(got) != 0 {
		t.Errorf("%d flows of a bundle that was given up", len(got))
	}
	apply(t, c, Change{Add: manyFlows(10, 1)})
}

func TestSilentSwitchIsNoticed(t *testing.T) {
	sw, _ := startSwitch(t)
	c, err := dial(deadline(t), sw.Mgmt(bridge), 20*time.Millisecond, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Features(deadline(t)); err != nil {
		t.Fatal(err)
	}
	sw.PauseVswitchd()
	defer sw.ResumeVswitchd()
	if _, err := c.Dump(deadline(t), 0, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestEchoKeepsConnectionAlive(t *testing.T) {
	sw, _ := startSwitch(t)
	const silence = 4 * time.Second // a busy machine's switch is slow to answer
	c, err := dial(deadline(t), sw.Mgmt(bridge), time.Millisecond, silence)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	idle := time.NewTimer(3 * silence)
	select {
	case <-c.Done():
		t.Errorf("closed: %v", c.Err())
	case <-idle.C:
	}
}

// awaitCalls waits until n calls are under way.
func awaitCalls(t *testing.T, c *Conn, n int) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c.mu.Lock()
		under := len(c.calls)
		c.mu.Unlock()
		if under == n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d calls under way, not %d", under, n)
		case <-tick.C:
		}
	}
}
