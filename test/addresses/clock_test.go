package addresses

import (
	"context"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// TestClockIsSetBack: an address that was released while the clock was ahead rests as long as any other.
func TestClockIsSetBack(t *testing.T) {
	testenv.Root(t)
	server := newServers(t, 1)
	const pool = "10.1.0.0/24"
	m := &machine{t: t, id: "host", cfg: hostConfig{ID: "host", Consul: server.addr(0), Dir: t.TempDir(), Rest: restTime}}
	m.start(false)
	t.Cleanup(m.kill)
	m.ask(call{Op: "pool", Pool: pool})
	set := func(offset time.Duration) {
		t.Helper()
		if err := testenv.SetClock(t.Context(), m.agent.cmd.Process.Pid, offset); err != nil {
			t.Fatal(err)
		}
	}
	// The first is released while the clock is ahead, the second afterwards: its place in the order must not be that of the first.
	first, second := m.ask(call{Op: "request", Pool: pool, ID: "02:00:00:00:00:01"}), m.ask(call{Op: "request", Pool: pool, ID: "02:00:00:00:00:02"})
	set(time.Hour)
	m.ask(call{Op: "release", Pool: pool, Addr: first.Addr})
	set(0)
	m.ask(call{Op: "release", Pool: pool, Addr: second.Addr})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		return m.ask(call{Op: "resting", Pool: pool}).Resting == 0
	}); err != nil {
		t.Errorf("addresses still rest: %+v", m.ask(call{Op: "list"}).Journal)
	}
}
